"""What an arm begins with: its seeds, the network's first weights, the weights of its loss."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.training.pretrained_weights import ENCODER_FILE
from segformer.losses import WEIGHTED_LOSSES, Loss, get_loss
from segformer.model.segformer import SegFormer
from segformer.weights.interop import load_encoder


def derive_seeds(seed: int) -> tuple[int, int, int]:
    """The seeds of an arm's random weights, of its frames' order and augmentation, of its dropout.

    Streams of random numbers that have nothing in common: torch's own would be the same.
    """
    of_weights, of_data, of_dropout = np.random.SeedSequence(seed).generate_state(3).tolist()
    return of_weights, of_data, of_dropout


def load_pretrained(model: SegFormer, weights: Path) -> None:
    """Give a network the encoder that `pretrained` left in the folder, if there is one."""
    if (weights / ENCODER_FILE).exists():
        load_encoder(model.encoder, weights / ENCODER_FILE)


def build_loss(name: str, *, family: str, class_weights: Path, device: torch.device) -> Loss:
    """Give the loss called `name`, with weights if it takes any.

    Args:
        name: in segformer.losses.LOSSES.
        family: of class weights, a column of the table.
        class_weights: the table that `frequency` wrote; read only if the loss takes weights.
        device: of the scores.
    """
    if name not in WEIGHTED_LOSSES:
        return get_loss(name)
    table = pd.read_csv(class_weights).sort_values("train_id")
    return get_loss(name, torch.from_numpy(table[family].to_numpy(np.float32)).to(device))
