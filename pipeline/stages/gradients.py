"""Measure the gradient of each class at each layer, for every loss at the same weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.params.ablation import arm_name
from pipeline.params.gradients import Gradients
from pipeline.run_record import read_run_facts
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
"""The name of the weights before the first step in the tables; others are named by their loss."""


@dataclass(frozen=True)
class GradientInputs:
    """The folders of `train`, `pack` and `pretrained`, and class_weights.csv of `frequency`."""

    models: Path
    pack: Path
    weights: Path
    class_weights: Path


@dataclass(frozen=True)
class ArmSelection:
    """The trainings at whose weights every loss is measured.

    Attributes:
        losses: the losses of the ablation.
        seeds: the seeds of the ablation.
        class_weights: the family of class weights that weighted losses were trained with.
    """

    losses: Sequence[str]
    seeds: Sequence[int]
    class_weights: str


@dataclass(frozen=True)
class _ArmWeights:
    """The weights of an arm before or after its training, at which gradients are measured."""

    weights: str
    seed: int
    step: int
    model: SegFormer

    @property
    def row(self) -> dict[str, object]:
        return {"weights": self.weights, "seed": self.seed, "step": self.step}


_Batch = tuple[Tensor, Tensor]
_Rows = list[dict[str, object]]


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

    classes.csv has a row per class: `scores` is the sum of |dL/ds| over the class's pixels and
    their scores s before the softmax; each column of a group of layers is the L2 norm of the
    gradient of the class's pixels. Both are empty for a class without pixels.

    batches.csv has a row for all classes together: the L2 norm of the gradient per group of layers;
    `wrong`, the share of pixels that are predicted wrongly; `of_wrong`, the share of the sum over
    `scores` that comes from these pixels; `steadiness`, the cosine between the gradients of two
    batches.

    The network runs as in training, but in float32, without drop path and dropout. The frames are
    whole, not augmented, and spread evenly over the training set.

    Raises:
        ValueError: if models or frames are missing or damaged, or memory runs out.
    """
    frames = PackedFrames.open(inputs.pack / "train")
    batches = _load_batches(frames, params.frames, device)
    seeds = list(arms.seeds[: params.seeds])
    total = len(seeds) * (1 + len(arms.losses))
    class_rows: _Rows = []
    batch_rows: _Rows = []
    losses = {
        name: build_loss(
            name, family=arms.class_weights, class_weights=inputs.class_weights, device=device
        )
        for name in arms.losses
    }
    names = [(seed, name) for seed in seeds for name in (START, *arms.losses)]
    for done, (seed, name) in enumerate(names):
        progress(done, total)
        arm_weights = _load_arm_weights(name, seed, arms.losses[0], inputs)
        arm_weights.model.to(device)
        try:
            new_class_rows, new_batch_rows = _measure(arm_weights, batches, losses)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"out of memory with gradients.frames {params.frames}: lower gradients.frames"
            ) from error
        class_rows += new_class_rows
        batch_rows += new_batch_rows
    progress(total, total)
    with replacing_contents(out) as folder:
        for rows, file in ((class_rows, "classes.csv"), (batch_rows, "batches.csv")):
            pd.DataFrame(rows).to_csv(folder / file, index=False, float_format="%.6g")


def load_initial_model(trained_folder: Path, seed: int, weights: Path) -> SegFormer:
    """Build the network that an arm of this seed starts from, without dropout of any kind.

    Args:
        trained_folder: the folder of a trained model of the same shape.
        seed: the seed of the arm.
        weights: the folder of pretrained weights.
    """
    torch.manual_seed(derive_seeds(seed)[0])
    model = _build_without_dropout(trained_folder)
    load_pretrained(model, weights)
    return model


def _load_arm_weights(name: str, seed: int, any_loss: str, inputs: GradientInputs) -> _ArmWeights:
    if name == START:
        folder = inputs.models / arm_name(any_loss, seed)
        return _ArmWeights(START, seed, 0, load_initial_model(folder, seed, inputs.weights))
    folder = inputs.models / arm_name(name, seed)
    model = _build_without_dropout(folder)
    model.load_state_dict(load(folder).state_dict())
    return _ArmWeights(name, seed, read_run_facts(folder)["steps"], model)


def _build_without_dropout(folder: Path) -> SegFormer:
    """Build a network of the shape of a trained one, with random weights and without dropout."""
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
    """Load two batches, or one if there is only one frame: (b, 3, h, w) and (b, h, w) each."""
    size = min(size, max(len(frames) // 2, 1))
    selected = np.unique(np.linspace(0, len(frames) - 1, 2 * size).round().astype(int))
    batches = []
    for indices in (selected[::2], selected[1::2]):
        if len(indices):
            images, labels = frames.batch(indices.tolist())
            batches.append((normalize(images.to(device)), labels.to(device).long()))
    return batches


def _measure(
    arm_weights: _ArmWeights, batches: Sequence[_Batch], losses: dict[str, Loss]
) -> tuple[_Rows, _Rows]:
    """Return the rows of both tables at these weights."""
    images, target = batches[0]
    class_rows: _Rows = []
    batch_rows: _Rows = []
    for name, gradients in gradients_by_class(arm_weights.model, images, target, losses).items():
        key = arm_weights.row | {"loss": name}
        class_rows += [key | row for row in _class_rows(gradients)]
        other_gradients = [
            compute_gradient(arm_weights.model, *batch, losses[name]) for batch in batches[1:]
        ]
        batch_rows.append(
            key
            | {"frames": len(images)}
            | dict(zip(LAYERS, gradients.total_l2.tolist(), strict=True))
            | {"wrong": gradients.error_rate, "of_wrong": gradients.wrong_share}
            | {"steadiness": _batch_cosine(gradients.total_gradient, other_gradients)}
        )
    return class_rows, batch_rows


def _class_rows(class_gradients: ClassGradients) -> _Rows:
    return [
        {"class": CLASS_NAMES[c], "scores": float(class_gradients.logit_l1[c])}
        | dict(zip(LAYERS, class_gradients.layer_l2[c].tolist(), strict=True))
        for c in range(len(CLASS_NAMES))
    ]


def _batch_cosine(gradient: Tensor, others: Sequence[Tensor]) -> float:
    """Return the cosine to the gradient of the other batch; nan if there is none."""
    if not others:
        return float("nan")
    return float(torch.cosine_similarity(gradient.double(), others[0].double(), dim=0))
