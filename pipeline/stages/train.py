"""Train: one arm of the ablation, from packed frames to a model with its history."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
import torch
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import nn

from pipeline.beginnings import build_loss, derive_seeds
from pipeline.section import NetworkSize, Section
from pipeline.starting_weights import read_license
from pipeline.termination import catch_stop_signals
from pipeline.training_folder import ResumeFolder
from pipeline.training_parts import (
    TrainInputs,
    compute_micro_batch_size,
    build_batch_loader,
    build_network,
    build_recipe,
)
from pipeline.training_troubles import exit_resumable, name_bad_frames, explain_out_of_memory
from segformer import processes
from segformer.acceleration import Compile, Precision, set_deterministic
from segformer.atomic import write_text
from segformer.batches import Residency
from segformer.checkpoint import load, save
from segformer.frames import PackedFrames
from segformer.inference import evaluate_packed
from segformer.losses import Loss
from segformer.metrics import mean_iou
from segformer.model import SegFormer
from segformer.training import fit
from segformer.training_state import StepRecord


class Augmentation(Section):
    """How a packed frame becomes a training crop."""

    crop: NetworkSize
    scale: tuple[PositiveFloat, PositiveFloat]
    """Least and most, of the packed size."""
    max_class_share: float = Field(gt=0, le=1)
    flip: bool
    photometric: bool

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale names the least factor first, not {list(self.scale)}")
        return self


class Train(Section):
    """One training; its loss and its seed come from the ablation's matrix."""

    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5"]
    decoder_width: PositiveInt | None
    drop_path: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    steps: PositiveInt
    batch_size: PositiveInt
    """Of an update, over all processes."""
    accumulation: PositiveInt
    optimizer: Literal["adamw", "adam"]
    learning_rate: PositiveFloat
    decoder_lr_factor: PositiveFloat
    weight_decay: NonNegativeFloat
    schedule: Literal["poly", "one_cycle"]
    warmup_steps: NonNegativeInt
    power: PositiveFloat
    clip_norm: PositiveFloat | None
    ema_decay: float | None = Field(gt=0, lt=1)
    sampling: Literal["uniform", "rare_class"]
    class_weights: Literal[
        "erfnet", "enet", "inverse", "sqrt_inverse", "median", "effective_number"
    ]
    """For the loss weighted_ce: which family of `frequency`'s weights."""
    augment: Augmentation
    precision: Precision
    compile: Compile
    activation_checkpointing: bool
    deterministic: bool
    residency: Residency
    report_every: PositiveInt
    validate_every: PositiveInt
    save_every: PositiveInt

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.schedule == "poly" and self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps must be less than steps, {self.steps}")
        return self

    @model_validator(mode="after")
    def _check_accumulation(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation must divide batch_size, {self.batch_size}")
        return self


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
    at_a_time = compute_micro_batch_size(params, processes.world_size())
    weights_seed, data_seed, dropout_seed = derive_seeds(seed)
    train_frames, val_frames = (
        PackedFrames.open(inputs.pack / split) for split in ("train", "val")
    )
    with explain_out_of_memory(params):
        torch.manual_seed(weights_seed)
        state, network = build_network(params, inputs, device)
        batches = build_batch_loader(params, inputs, train_frames, data_seed, device)
        torch.manual_seed(dropout_seed + processes.rank())  # apart in every process
        if (saved := processes.broadcast(resume_folder.load_latest())) is not None:
            state.load_state_dict(saved)
            for record in state.history:
                report(record)
        with catch_stop_signals() as is_stopping, name_bad_frames(batches.frame_names, resume_folder):
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
    if processes.is_main():
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
