"""Train: one arm of the ablation, from packed frames to a model with its history."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.params.train import Train
from pipeline.signals import catch_stop_signals
from pipeline.training.errors import exit_resumable, explain_out_of_memory, name_bad_frames
from pipeline.training.pretrained_weights import read_license
from pipeline.training.resume import ResumeFolder
from pipeline.training.setup import build_loss, derive_seeds, load_pretrained
from segformer import distributed
from segformer.atomic import write_text
from segformer.data.augment import Augment
from segformer.data.loader import BatchLoader
from segformer.data.packed_frames import PackedFrames
from segformer.data.sampling import BatchSampler, shuffled, weighted
from segformer.device import autocast_dtype, maybe_compile, set_deterministic
from segformer.inference.segment import evaluate_packed
from segformer.losses import Loss
from segformer.metrics.confusion import mean_iou
from segformer.model.segformer import SegFormer
from segformer.training.loop import Recipe, fit
from segformer.training.optimizer import OPTIMIZERS
from segformer.training.schedule import one_cycle, warmup_poly
from segformer.training.state import StepRecord, TrainingState
from segformer.training.sync_batchnorm import convert_sync_batchnorm
from segformer.weights.checkpoint import load, save


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
    params: Train, inputs: TrainInputs, device: torch.device
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
    if distributed.world_size() > 1:
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


def compute_micro_batch_size(params: Train, num_processes: int) -> int:
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


def build_recipe(params: Train, loss: Loss, device: torch.device) -> Recipe:
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
    params: Train, inputs: TrainInputs, frames: PackedFrames, seed: int, device: torch.device
) -> BatchLoader:
    """Give this process's share of the endless batches."""
    return BatchLoader(
        frames,
        _build_order(params, inputs, frames, seed),
        Augment(**params.augment.model_dump()),
        seed=seed,
        device=device,
        residency=params.residency,
        shard=(distributed.rank(), distributed.world_size()),
    )


def _build_order(
    params: Train, inputs: TrainInputs, frames: PackedFrames, seed: int
) -> BatchSampler:
    if params.sampling == "uniform":
        return shuffled(len(frames), params.batch_size, seed)
    table = pd.read_csv(inputs.sampling).set_index("frame")
    probabilities = table["probability"].loc[frames.names].to_numpy()
    return weighted(probabilities, params.batch_size, seed)


def train_arm(
    params: Train,
    *,
    loss: str,
    seed: int,
    device: torch.device,
    inputs: TrainInputs,
    out: Path,
    resume_folder: ResumeFolder,
    report: Callable[[StepRecord], None],
    facts: dict[str, Any],
) -> None:
    """Write model.safetensors, config.json, history.csv and run.json into `out`.

    A training that was interrupted goes on from its last state; SIGTERM and ctrl-C save one first.

    Args:
        params: the section `train`.
        loss: a name in segformer.losses.LOSSES.
        seed: of the random weights, the order of the frames and the augmentation.
        device: where to train.
        inputs: what is read.
        out: where to write.
        resume_folder: where the states of this training are.
        report: called with every record of the training's history, those from before an
            interruption included; in the first process only, if there are many.
        facts: what else run.json should hold.

    Raises:
        ValueError: for a loss that does not exist, packed frames or weights that do not fit, a loss
            that is not finite, or too little memory.
    """
    set_deterministic(params.deterministic)
    at_a_time = compute_micro_batch_size(params, distributed.world_size())
    weights_seed, data_seed, dropout_seed = derive_seeds(seed)
    train_frames, val_frames = (
        PackedFrames.open(inputs.pack / split) for split in ("train", "val")
    )
    with explain_out_of_memory(params):
        torch.manual_seed(weights_seed)
        state, network = build_network(params, inputs, device)
        batches = build_batch_loader(params, inputs, train_frames, data_seed, device)
        torch.manual_seed(dropout_seed + distributed.rank())  # apart in every process
        if (saved := distributed.broadcast(resume_folder.load_latest())) is not None:
            state.load_state_dict(saved)
            for record in state.history:
                report(record)
        with (
            catch_stop_signals() as is_stopping,
            name_bad_frames(batches.frame_names, resume_folder),
        ):
            fit(
                state,
                batches,
                build_recipe(params, _build_arm_loss(loss, params, inputs, device), device),
                network=network,
                validate=lambda model: _validate(model, val_frames, at_a_time, device),
                report=report,
                save=resume_folder.save,
                should_stop=is_stopping,
            )
            if state.step < params.steps:  # some process was asked to stop, perhaps not this one
                exit_resumable(state.step)
    if distributed.is_main():
        kept = {"ema_decay": params.ema_decay, "license": read_license(inputs.weights)}
        seen = {"size": train_frames.size, "crop": params.augment.crop}
        _write_model(out, state.eval_model, seen | kept)
        facts = {"loss": loss, "seed": seed, "steps": params.steps} | facts
        _write_history(out, state.history, facts)


def read_run_facts(folder: Path) -> dict[str, Any]:
    """What run.json of a trained arm says."""
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return facts


def _build_arm_loss(name: str, params: Train, inputs: TrainInputs, device: torch.device) -> Loss:
    family, table = params.class_weights, inputs.class_weights
    return build_loss(name, family=family, class_weights=table, device=device)


def _validate(
    model: nn.Module, frames: PackedFrames, micro_batch_size: int, device: torch.device
) -> float:
    return float(mean_iou(evaluate_packed(model, frames, micro_batch_size, device)))


def _write_model(out: Path, model: nn.Module, facts: dict[str, Any]) -> None:
    assert isinstance(model, SegFormer)
    save(model, out, **facts)
    load(out)  # strictly, as whoever uses it will: a model that cannot be read is found here


def _write_history(out: Path, history: list[StepRecord], facts: dict[str, Any]) -> None:
    table = pd.DataFrame(
        [
            # No timings: the same seed gives the same bytes.
            [record.step, record.loss, record.learning_rate, record.val_miou]
            for record in history
        ],
        columns=["step", "loss", "learning_rate", "val_miou"],
    )
    write_text(out / "history.csv", table.to_csv(index=False))
    write_text(out / "run.json", json.dumps(facts, indent=2) + "\n")
