"""Train: one arm of the ablation, from packed frames to a model with its history."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
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
from torch import Tensor

from pipeline.section import NetworkSize, Section
from pipeline.starting_weights import ENCODER, read_license
from segformer.atomic import write_text
from segformer.augment import Augment
from segformer.checkpoint import load, save
from segformer.frames import PackedFrames, shuffled, weighted
from segformer.inference import evaluate_packed
from segformer.interop import load_encoder
from segformer.losses import WEIGHTED, Loss, get_loss
from segformer.metrics import mean_iou
from segformer.model import SegFormer
from segformer.optimizer import adamw
from segformer.schedule import warmup_poly
from segformer.training import Progress, fit


class Augmentation(Section):
    """How a packed frame becomes a training crop."""

    crop: NetworkSize
    scale: tuple[PositiveFloat, PositiveFloat]
    """Least and most, of the packed size."""
    max_class_share: float = Field(gt=0, le=1)
    flip: bool
    photometric: bool

    @model_validator(mode="after")
    def _scale_rises(self) -> Self:
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
    learning_rate: PositiveFloat
    decoder_lr_factor: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup_steps: NonNegativeInt
    power: PositiveFloat
    clip_norm: PositiveFloat | None
    sampling: Literal["uniform", "rare_class"]
    class_weights: Literal[
        "erfnet", "enet", "inverse", "sqrt_inverse", "median", "effective_number"
    ]
    """For the loss weighted_ce: which family of `frequency`'s weights."""
    augment: Augmentation
    report_every: PositiveInt
    validate_every: PositiveInt

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps must be less than steps, {self.steps}")
        return self


def run(
    params: Train,
    *,
    loss: str,
    seed: int,
    pack: Path,
    frequency: Path,
    weights: Path,
    out: Path,
    report: Callable[[Progress], None],
    facts: dict[str, Any],
) -> None:
    """Write model.safetensors, config.json, history.csv and run.json into `out`.

    Args:
        params: the section `train`.
        loss: a name in segformer.losses.LOSSES.
        seed: of the random weights, the order of the frames and the augmentation.
        pack: the folder of `pack`.
        frequency: the folder of `frequency`.
        weights: the folder of `pretrained`.
        out: where to write.
        report: called with every record of progress.
        facts: what else run.json should hold.

    Raises:
        ValueError: for a loss that does not exist, packed frames or weights that do not fit, or a
            loss that is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Two streams of random numbers that have nothing in common: torch's own would be the same.
    weights_seed, data_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
    torch.manual_seed(weights_seed)
    model = _model(params, weights).to(device)
    train_frames, val_frames = (PackedFrames.open(pack / split) for split in ("train", "val"))
    history: list[Progress] = []

    def remember(progress: Progress) -> None:
        history.append(progress)
        report(progress)

    fit(
        model,
        _batches(params, train_frames, frequency, data_seed, device),
        loss=_loss(loss, params, frequency, device),
        optimizer=adamw(
            model,
            lr=params.learning_rate,
            decoder_lr_factor=params.decoder_lr_factor,
            weight_decay=params.weight_decay,
        ),
        schedule=partial(
            warmup_poly,
            steps=params.steps,
            warmup_steps=params.warmup_steps,
            power=params.power,
        ),
        steps=params.steps,
        clip_norm=params.clip_norm,
        report=remember,
        validate=partial(_validate, model, val_frames, params.batch_size, device),
        report_every=params.report_every,
        validate_every=params.validate_every,
    )
    seen = {"size": train_frames.size, "crop": params.augment.crop}
    _write(out, model, seen | {"license": read_license(weights)})
    _write_records(out, history, {"loss": loss, "seed": seed, "steps": params.steps} | facts)


def read_facts(folder: Path) -> dict[str, Any]:
    """What run.json of a trained arm says."""
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return facts


def _model(params: Train, weights: Path) -> SegFormer:
    model = SegFormer(
        params.variant,
        decoder_width=params.decoder_width,
        drop_path=params.drop_path,
        dropout=params.dropout,
    )
    if (weights / ENCODER).exists():
        load_encoder(model.encoder, weights / ENCODER)
    return model


def _loss(name: str, params: Train, frequency: Path, device: torch.device) -> Loss:
    if name not in WEIGHTED:
        return get_loss(name)
    table = pd.read_csv(frequency / "class_weights.csv").sort_values("train_id")
    weights = table[params.class_weights].to_numpy(np.float32)
    return get_loss(name, torch.from_numpy(weights).to(device))


def _batches(
    params: Train, frames: PackedFrames, frequency: Path, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)  # of the CPU: the same crops on every device
    if params.sampling == "rare_class":
        table = pd.read_csv(frequency / "sampling.csv").set_index("frame")
        probabilities = torch.tensor(table["probability"].loc[frames.names].to_numpy())
        order = weighted(probabilities, params.batch_size, generator)
    else:
        order = shuffled(len(frames), params.batch_size, generator)
    augment = Augment(**params.augment.model_dump())
    for images, labels in map(frames.batch, order):
        yield augment(images.to(device), labels.to(device), generator)


def _validate(
    model: SegFormer, frames: PackedFrames, batch_size: int, device: torch.device
) -> float:
    return float(mean_iou(evaluate_packed(model, frames, batch_size, device)))


def _write(out: Path, model: SegFormer, facts: dict[str, Any]) -> None:
    save(model, out, **facts)
    load(out)  # strictly, as whoever uses it will: a model that cannot be read is found here


def _write_records(out: Path, history: list[Progress], facts: dict[str, Any]) -> None:
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
