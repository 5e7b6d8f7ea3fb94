"""Builds what a training is made of: its parts from the section `train`, its inputs from disk."""

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.beginnings import load_pretrained
from segformer import processes
from segformer.acceleration import autocast_dtype, maybe_compile
from segformer.augment import Augment
from segformer.batches import BatchLoader
from segformer.frames import PackedFrames
from segformer.losses import Loss
from segformer.model import SegFormer
from segformer.optimizer import OPTIMIZERS
from segformer.sampling import BatchSampler, shuffled, weighted
from segformer.schedule import one_cycle, warmup_poly
from segformer.shared_norm import convert_sync_batchnorm
from segformer.training import Recipe
from segformer.training_state import TrainingState

if TYPE_CHECKING:
    from pipeline.stages.train import Train


@dataclass(frozen=True)
class TrainInputs:
    """The folders that the stages `pack`, `frequency` and `pretrained` wrote."""

    pack: Path
    frequency: Path
    weights: Path

    @property
    def class_weights(self) -> Path:
        """The table of weights per class."""
        return self.frequency / "class_weights.csv"

    @property
    def sampling(self) -> Path:
        """The table of probabilities per frame."""
        return self.frequency / "sampling.csv"

    def list_artifacts(self) -> list[Path]:
        """What the run should show of the data, as far as it is there."""
        names = ("class_frequency.csv", "class_frequency.png", "class_weights.csv")
        return [self.frequency / name for name in names if (self.frequency / name).exists()]

    def list_files(self) -> list[Path]:
        """Everything that is read."""
        return [self.pack, self.weights, self.class_weights, self.sampling]


def build_network(
    params: "Train", inputs: TrainInputs, device: torch.device
) -> tuple[TrainingState, nn.Module]:
    """Give the model with what trains it, and the model as it is called in training."""
    model = SegFormer(
        params.variant,
        decoder_width=params.decoder_width,
        drop_path=params.drop_path,
        dropout=params.dropout,
    )
    load_pretrained(model, inputs.weights)
    model.encoder.set_gradient_checkpointing(params.activation_checkpointing)
    model.to(device)
    network: nn.Module = model
    if processes.world_size() > 1:
        # Depthwise kernels have a dimension of size 1, whose stride means nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        network = DistributedDataParallel(convert_sync_batchnorm(model))
        # Equal in every process already. (The argument has another name in each PyTorch.)
        network.broadcast_buffers = False
    optimizer = OPTIMIZERS[params.optimizer](
        model,
        lr=params.learning_rate,
        decoder_lr_factor=params.decoder_lr_factor,
        weight_decay=params.weight_decay,
    )
    state = TrainingState(model, optimizer, params.ema_decay)
    return state, maybe_compile(network, params.compile, device)


def compute_micro_batch_size(params: "Train", num_processes: int) -> int:
    """How many frames a process takes at a time.

    Raises:
        ValueError: if the batch cannot be taken in equal parts by so many processes.
    """
    parts = params.accumulation * num_processes
    if params.batch_size % parts:
        raise ValueError(
            f"train.batch_size {params.batch_size} in train.accumulation {params.accumulation} "
            f"parts cannot be shared evenly by {num_processes} processes; make the batch size a "
            f"multiple of {parts}, or change the other two"
        )
    return params.batch_size // parts


def build_recipe(params: "Train", loss: Loss, device: torch.device) -> Recipe:
    """Give the numbers of the training."""
    schedule = partial(one_cycle, steps=params.steps)
    if params.schedule == "poly":
        schedule = partial(
            warmup_poly, steps=params.steps, warmup_steps=params.warmup_steps, power=params.power
        )
    return Recipe(
        steps=params.steps,
        loss=loss,
        schedule=schedule,
        clip_norm=params.clip_norm,
        accumulation=params.accumulation,
        autocast=autocast_dtype(params.precision, device),
        report_every=params.report_every,
        validate_every=params.validate_every,
        save_every=params.save_every,
    )


def build_batch_loader(
    params: "Train", inputs: TrainInputs, frames: PackedFrames, seed: int, device: torch.device
) -> BatchLoader:
    """Give this process's share of the endless batches."""
    return BatchLoader(
        frames,
        _build_order(params, inputs, frames, seed),
        Augment(**params.augment.model_dump()),
        seed=seed,
        device=device,
        residency=params.residency,
        shard=(processes.rank(), processes.world_size()),
    )


def _build_order(params: "Train", inputs: TrainInputs, frames: PackedFrames, seed: int) -> BatchSampler:
    if params.sampling == "uniform":
        return shuffled(len(frames), params.batch_size, seed)
    table = pd.read_csv(inputs.sampling).set_index("frame")
    probabilities = table["probability"].loc[frames.names].to_numpy()
    return weighted(probabilities, params.batch_size, seed)
