"""Train one arm of the ablation, from packed frames to a model with its history."""

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
from pipeline.run_record import write_run_facts
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
    """The output folders of the stages `pack`, `frequency` and `pretrained`."""

    pack: Path
    frequency: Path
    weights: Path

    @property
    def class_weights(self) -> Path:
        """The table of weights per class."""
        return self.frequency / "class_weights.csv"

    @property
    def sampling(self) -> Path:
        """The table of sampling probabilities per frame."""
        return self.frequency / "sampling.csv"

    def list_artifacts(self) -> list[Path]:
        """The files about class frequency to log with the run, as far as they exist."""
        names = ("class_frequency.csv", "class_frequency.png", "class_weights.csv")
        return [self.frequency / name for name in names if (self.frequency / name).exists()]

    def list_files(self) -> list[Path]:
        """Everything that the training reads."""
        return [self.pack, self.weights, self.class_weights, self.sampling]


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

    An interrupted training resumes from its last saved state; SIGTERM and ctrl-C save one before
    the process exits.

    Args:
        params: the section `train`.
        loss: a name in segformer.losses.LOSSES.
        seed: of the random weights, the order of the frames and the augmentation.
        device: where to train.
        inputs: what to train on.
        out: where to write.
        resume_folder: holds the saved states of this training.
        report: called with every record of the training's history, including those from before an
            interruption; with several processes, in the first one only.
        facts: what run.json holds in addition to loss, seed and steps.

    Raises:
        ValueError: for an unknown loss, packed frames or weights that do not fit, a loss that is
            not finite, or too little memory.
    """
    set_deterministic(params.deterministic)
    micro_batch_size = compute_micro_batch_size(params, distributed.world_size())
    weights_seed, data_seed, dropout_seed = derive_seeds(seed)
    train_frames, val_frames = (
        PackedFrames.open(inputs.pack / split) for split in ("train", "val")
    )
    with explain_out_of_memory(params):
        torch.manual_seed(weights_seed)
        state, network = build_network(params, inputs, device)
        batches = build_batch_loader(params, inputs, train_frames, data_seed, device)
        torch.manual_seed(dropout_seed + distributed.rank())  # another one in every process
        if (saved := distributed.broadcast(resume_folder.load_latest())) is not None:
            state.load_state_dict(saved)
            for record in state.history:
                report(record)
        with (
            catch_stop_signals() as should_stop,
            name_bad_frames(batches.frame_names, resume_folder),
        ):
            fit(
                state,
                batches,
                build_recipe(params, _build_arm_loss(loss, params, inputs, device), device),
                network=network,
                validate=lambda model: _validate(model, val_frames, micro_batch_size, device),
                report=report,
                save=resume_folder.save,
                should_stop=should_stop,
            )
            if state.step < params.steps:  # the signal may have reached another process only
                exit_resumable(state.step)
    if distributed.is_main():
        metadata = {
            "size": train_frames.size,
            "crop": params.augment.crop,
            "ema_decay": params.ema_decay,
            "license": read_license(inputs.weights),
        }
        _write_model(out, state.eval_model, metadata)
        _write_history(out, state.history)
        write_run_facts(out, {"loss": loss, "seed": seed, "steps": params.steps} | facts)


def build_network(
    params: Train, inputs: TrainInputs, device: torch.device
) -> tuple[TrainingState, nn.Module]:
    """Build the training state of a new model, and the module to call in training.

    The module is the model itself, or the model wrapped for several processes or compiled.
    """
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


def build_batch_loader(
    params: Train, inputs: TrainInputs, frames: PackedFrames, seed: int, device: torch.device
) -> BatchLoader:
    """Build this process's share of the endless batches."""
    return BatchLoader(
        frames,
        _build_sampler(params, inputs, frames, seed),
        Augment(**params.augment.model_dump()),
        seed=seed,
        device=device,
        residency=params.residency,
        shard=(distributed.rank(), distributed.world_size()),
    )


def _build_sampler(
    params: Train, inputs: TrainInputs, frames: PackedFrames, seed: int
) -> BatchSampler:
    if params.sampling == "uniform":
        return shuffled(len(frames), params.batch_size, seed)
    table = pd.read_csv(inputs.sampling).set_index("frame")
    probabilities = table["probability"].loc[frames.names].to_numpy()
    return weighted(probabilities, params.batch_size, seed)


def build_recipe(params: Train, loss: Loss, device: torch.device) -> Recipe:
    """Build the settings of the training loop."""
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


def compute_micro_batch_size(params: Train, num_processes: int) -> int:
    """Return how many frames a process takes at a time.

    Raises:
        ValueError: if the batch cannot be divided evenly.
    """
    parts = params.accumulation * num_processes
    if params.batch_size % parts:
        raise ValueError(
            f"train.batch_size {params.batch_size} with train.accumulation {params.accumulation}"
            f" cannot be divided evenly among {num_processes} processes; make the batch size a"
            f" multiple of {parts}, or change train.accumulation or the number of processes"
        )
    return params.batch_size // parts


def _build_arm_loss(name: str, params: Train, inputs: TrainInputs, device: torch.device) -> Loss:
    family, table = params.class_weights, inputs.class_weights
    return build_loss(name, family=family, class_weights=table, device=device)


def _validate(
    model: nn.Module, frames: PackedFrames, micro_batch_size: int, device: torch.device
) -> float:
    return float(mean_iou(evaluate_packed(model, frames, micro_batch_size, device)))


def _write_model(out: Path, model: nn.Module, metadata: dict[str, Any]) -> None:
    assert isinstance(model, SegFormer)
    save(model, out, **metadata)
    load(out)  # strictly, as its users do: an unreadable model fails here


def _write_history(out: Path, history: list[StepRecord]) -> None:
    table = pd.DataFrame(
        [
            # No timings: the same seed gives the same bytes.
            [record.step, record.loss, record.learning_rate, record.val_miou]
            for record in history
        ],
        columns=["step", "loss", "learning_rate", "val_miou"],
    )
    write_text(out / "history.csv", table.to_csv(index=False))
