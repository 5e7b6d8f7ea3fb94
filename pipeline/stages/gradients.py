"""Gradients: how hard each class pulls at each layer, for every loss at the same weights."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.params.gradients import Gradients
from pipeline.training.setup import build_loss, derive_seeds, load_pretrained
from segformer.atomic import replacing_contents
from segformer.cityscapes import CLASS_NAMES
from segformer.data.packed_frames import PackedFrames, normalize
from segformer.device import is_out_of_memory
from segformer.explain.class_gradients import (
    LAYERS,
    ClassGradients,
    compute_gradient,
    gradients_by_class,
)
from segformer.losses import Loss
from segformer.model.segformer import SegFormer
from segformer.weights.checkpoint import load, read_config

START = "start"
"""What the weights before the first step are called in the tables; others by their arm's loss."""


@dataclass(frozen=True)
class GradientInputs:
    """The folders of `train`, `pack` and `pretrained`, and class_weights.csv of `frequency`."""

    models: Path
    pack: Path
    weights: Path
    class_weights: Path


@dataclass(frozen=True)
class ArmSelection:
    """Which trainings are looked at; every loss is measured at the weights of each.

    Attributes:
        losses: of the ablation.
        seeds: of the ablation.
        class_weights: the family that a weighted loss was trained with.
    """

    losses: Sequence[str]
    seeds: Sequence[int]
    class_weights: str


@dataclass(frozen=True)
class _ArmWeights:
    """Where a gradient is measured: weights of an arm, before or after its training."""

    weights: str
    seed: int
    step: int
    model: SegFormer

    @property
    def row(self) -> dict[str, object]:
        return {"weights": self.weights, "seed": self.seed, "step": self.step}


_Batch = tuple[Tensor, Tensor]


def measure_gradients(
    params: Gradients,
    *,
    arms: ArmSelection,
    inputs: GradientInputs,
    out: Path,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> None:
    """Write classes.csv and batches.csv into `out`.

    A row of classes.csv is a class: `scores`, the sum of |dL/ds| over its pixels and their scores s
    before the softmax, and for each group of layers the length of the gradient that its pixels
    send; empty where it has none. A row of batches.csv is all classes together: the length of each
    group's gradient, `wrong` and `of_wrong`, the share of pixels that are predicted wrongly and the
    share of the sum over `scores` that comes from these, and `steadiness`, the cosine between the
    gradients of two batches.

    The network is as in training but for drop path and dropout, which are off, and in float32; the
    frames are whole and not augmented, spread evenly over the training set.

    Raises:
        ValueError: for models or frames that are missing or damaged, or too little memory.
    """
    frames = PackedFrames.open(inputs.pack / "train")
    batches = _load_batches(frames, params.frames, device)
    seeds = list(arms.seeds[: params.seeds])
    total = len(seeds) * (1 + len(arms.losses))
    classes, wholes = [], []
    losses = {
        name: build_loss(
            name, family=arms.class_weights, class_weights=inputs.class_weights, device=device
        )
        for name in arms.losses
    }
    names = [(seed, name) for seed in seeds for name in (START, *arms.losses)]
    for done, (seed, name) in enumerate(names):
        progress(done, total)
        place = _load_arm_weights(name, seed, arms.losses[0], inputs)
        place.model.to(device)
        try:
            of_classes, of_wholes = _measure(place, batches, losses)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"out of memory with gradients.frames {params.frames}: lower it"
            ) from error
        classes += of_classes
        wholes += of_wholes
    progress(total, total)
    with replacing_contents(out) as folder:
        for rows, file in ((classes, "classes.csv"), (wholes, "batches.csv")):
            pd.DataFrame(rows).to_csv(folder / file, index=False, float_format="%.6g")


def load_initial_model(trained_folder: Path, seed: int, weights: Path) -> SegFormer:
    """The network as an arm of this seed had it before its first step, nothing left to chance.

    Args:
        trained_folder: the folder of a trained model, of the same shape.
        seed: of the arm.
        weights: the folder of starting weights.
    """
    torch.manual_seed(derive_seeds(seed)[0])
    model = _build_without_dropout(trained_folder)
    load_pretrained(model, weights)
    return model


def _load_arm_weights(name: str, seed: int, any_loss: str, inputs: GradientInputs) -> _ArmWeights:
    if name == START:
        return _ArmWeights(
            START,
            seed,
            0,
            load_initial_model(_arm_folder(inputs, any_loss, seed), seed, inputs.weights),
        )
    folder = _arm_folder(inputs, name, seed)
    model = _build_without_dropout(folder)
    model.load_state_dict(load(folder).state_dict())
    return _ArmWeights(name, seed, json.loads((folder / "run.json").read_text())["steps"], model)


def _arm_folder(inputs: GradientInputs, loss: str, seed: int) -> Path:
    return inputs.models / f"{loss}-{seed}"


def _build_without_dropout(folder: Path) -> SegFormer:
    """A network of the shape of a trained one, with random weights and no dropout of any kind."""
    config = read_config(folder)
    return SegFormer(
        config["variant"],
        config["num_classes"],
        decoder_width=config["decoder_width"],
        norm_eps=config["norm_eps"],
        drop_path=0.0,
        dropout=0.0,
    )


def _load_batches(frames: PackedFrames, size: int, device: torch.device) -> list[_Batch]:
    """Two batches, or one where there is but one frame: (b, 3, h, w) and (b, h, w) each."""
    size = min(size, max(len(frames) // 2, 1))
    chosen = np.unique(np.linspace(0, len(frames) - 1, 2 * size).round().astype(int))
    batches = []
    for indices in (chosen[::2], chosen[1::2]):
        if len(indices):
            images, labels = frames.batch(indices.tolist())
            batches.append((normalize(images.to(device)), labels.to(device).long()))
    return batches


_Rows = list[dict[str, object]]


def _measure(
    arm_weights: _ArmWeights, batches: Sequence[_Batch], losses: dict[str, Loss]
) -> tuple[_Rows, _Rows]:
    """Give the rows of both tables at these weights."""
    images, target = batches[0]
    pulls = gradients_by_class(arm_weights.model, images, target, losses)
    classes: _Rows = []
    wholes: _Rows = []
    for name, pull in pulls.items():
        begin = arm_weights.row | {"loss": name}
        frames = {"frames": len(images)}
        classes += [begin | row for row in _class_rows(pull)]
        others = [
            compute_gradient(arm_weights.model, *batch, losses[name]) for batch in batches[1:]
        ]
        whole = dict(zip(LAYERS, pull.total_l2.tolist(), strict=True))
        shares = {"wrong": pull.error_rate, "of_wrong": pull.wrong_share}
        wholes.append(
            begin
            | frames
            | whole
            | shares
            | {"steadiness": _batch_cosine(pull.total_gradient, others)}
        )
    return classes, wholes


def _class_rows(class_gradients: ClassGradients) -> _Rows:
    return [
        {"class": CLASS_NAMES[c], "scores": float(class_gradients.logit_l1[c])}
        | dict(zip(LAYERS, class_gradients.layer_l2[c].tolist(), strict=True))
        for c in range(len(CLASS_NAMES))
    ]


def _batch_cosine(whole: Tensor, others: Sequence[Tensor]) -> float:
    if not others:
        return float("nan")
    return float(torch.cosine_similarity(whole.double(), others[0].double(), dim=0))
