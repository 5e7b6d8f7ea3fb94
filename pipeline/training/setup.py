"""Set up an arm: its seeds, the initial weights of its network, and its loss."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.training.pretrained_weights import ENCODER_FILE
from segformer.losses import WEIGHTED_LOSSES, Loss, get_loss
from segformer.model.segformer import SegFormer
from segformer.weights.interop import load_encoder


def derive_seeds(seed: int) -> tuple[int, int, int]:
    """Derive the seeds of an arm's random weights, of frame order and augmentation, and of dropout.

    The three streams of random numbers are independent; seeding torch with `seed` for each would
    give the same stream three times.
    """
    weights_seed, data_seed, dropout_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    return weights_seed, data_seed, dropout_seed


def load_pretrained(model: SegFormer, weights: Path) -> None:
    """Load the encoder weights that `pretrained` wrote into the folder, if there are any."""
    if (weights / ENCODER_FILE).exists():
        load_encoder(model.encoder, weights / ENCODER_FILE)


def build_loss(name: str, *, family: str, class_weights: Path, device: torch.device) -> Loss:
    """Build the loss called `name`, with class weights if it takes them.

    Args:
        name: a name in segformer.losses.LOSSES.
        family: the family of class weights, a column of the table.
        class_weights: the table of `frequency`; read only if the loss takes weights.
        device: the device of the scores.
    """
    if name not in WEIGHTED_LOSSES:
        return get_loss(name)
    table = pd.read_csv(class_weights).sort_values("train_id")
    return get_loss(name, torch.from_numpy(table[family].to_numpy(np.float32)).to(device))
