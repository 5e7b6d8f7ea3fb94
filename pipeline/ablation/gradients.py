"""What `gradients` measured, read: whose pixels pull how hard, for each loss at each weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import Floats
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES

_CLASS_COLUMNS = ("weights", "seed", "step", "loss", "class", "scores")
_BATCH_COLUMNS = ("weights", "seed", "step", "loss", "frames", "wrong", "of_wrong", "steadiness")


@dataclass(frozen=True)
class GradientSummary:
    """One loss's gradient at one kind of weights, means over seeds; k classes, g groups of layers.

    Attributes:
        logit_share: (k,) each class's share of the sum of |dL/ds|, summing to 1; nan where absent.
        layer_share: (k, g) its share of the lengths of what the classes send to a group of layers,
            summing to 1 over the classes.
        class_norms: (k, g) the length of what each class sends to a group of layers; nan where
            absent.
        gradient_norms: (g,) of the gradient of each group, all classes together.
        class_alignment: the length of the whole gradient over the sum of the classes' lengths: 1 if all
            pull the same way, 0 if they cancel.
        error_focus: how many times as hard a wrongly predicted pixel pulls as the average pixel; nan if
            none is wrong.
        batch_cosine: the cosine between the gradients of two batches.
    """

    logit_share: Floats
    layer_share: Floats
    class_norms: Floats
    gradient_norms: Floats
    class_alignment: float
    error_focus: float
    batch_cosine: float

    def rare_logit_share(self, is_rare: NDArray[np.bool_]) -> float:
        """The share of the rare classes at the scores."""
        return float(np.nansum(self.logit_share[is_rare]))

    def rare_layer_share(self, is_rare: NDArray[np.bool_]) -> Floats:
        """(g,): their share at the layers."""
        return np.asarray(np.nansum(self.layer_share[is_rare], axis=0))


@dataclass(frozen=True)
class GradientResults:
    """All of it.

    Attributes:
        layers: the g groups, from the pixels up.
        steps: by kind of weights, `initial_weights` and then the losses that trained them: after how many
            steps.
        summaries: by (weights, loss).
        num_seeds: that were looked at.
        num_frames: of a batch.
    """

    layers: list[str]
    steps: dict[str, int]
    summaries: dict[tuple[str, str], GradientSummary]
    num_seeds: int
    num_frames: int

    @property
    def initial_weights(self) -> str:
        """What the weights before the first step are called."""
        return next(weights for weights, step in self.steps.items() if step == 0)

    @property
    def trained_weights(self) -> list[str]:
        """The kinds of weights after training."""
        return [weights for weights, step in self.steps.items() if step > 0]


def read_gradients(folder: Path, losses: Sequence[str]) -> GradientResults:
    """Read the tables of `gradients`.

    Raises:
        ValueError: if one is missing, lacks a column, or is of other losses.
    """
    classes = _read(folder / "classes.csv", _CLASS_COLUMNS)
    batches = _read(folder / "batches.csv", _BATCH_COLUMNS)
    for table, file in ((classes, "classes.csv"), (batches, "batches.csv")):
        if set(table["loss"]) != set(losses) or not set(losses) <= set(table["weights"]):
            raise ValueError(f"{folder / file} is of other losses: run `dvc repro gradients`")
    layers = [name for name in classes.columns if name not in _CLASS_COLUMNS]
    steps = dict(zip(batches["weights"].tolist(), batches["step"].tolist(), strict=True))
    of = {
        (weights, loss): _summarize(
            _select_rows(classes, weights, loss), _select_rows(batches, weights, loss), layers
        )
        for weights in steps
        for loss in losses
    }
    return GradientResults(
        layers, steps, of, batches["seed"].nunique(), int(batches["frames"].max())
    )


def build_share_table(gradients: GradientResults) -> pd.DataFrame:
    """A row per weights, loss and class: its share at the scores and at each group of layers.

    After these columns, the length of what the class sends to each group: `length_` and its name.
    """
    tables = []
    for (weights, loss), pull in gradients.summaries.items():
        begin = {"weights": weights, "step": gradients.steps[weights], "loss": loss}
        columns = {"class": CLASS_NAMES, "scores": pull.logit_share}
        layers = dict(zip(gradients.layers, pull.layer_share.T, strict=True))
        names = [f"length_{layer}" for layer in gradients.layers]
        lengths = dict(zip(names, pull.class_norms.T, strict=True))
        tables.append(pd.DataFrame(begin | columns | layers | lengths))
    return pd.concat(tables)


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro gradients`") from None
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise ValueError(f"{path} has no column {lacking[0]}: run `dvc repro gradients`")
    return table


def _select_rows(table: pd.DataFrame, weights: str, loss: str) -> pd.DataFrame:
    return table[(table["weights"] == weights) & (table["loss"] == loss)]


def _summarize(classes: pd.DataFrame, batches: pd.DataFrame, layers: list[str]) -> GradientSummary:
    at_scores = classes["scores"].to_numpy(float).reshape(-1, NUM_CLASSES)  # (s, k)
    at_layers = classes[layers].to_numpy(float).reshape(-1, NUM_CLASSES, len(layers))  # (s, k, g)
    lengths = batches[layers].to_numpy(float)  # (s, g)
    of_classes = np.nansum(np.sqrt(np.square(at_layers).sum(axis=2)), axis=1)  # (s,)
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is wrong, or nothing pulls
        aim = batches["of_wrong"].to_numpy(float) / batches["wrong"].to_numpy(float)
        return GradientSummary(
            (at_scores / np.nansum(at_scores, axis=1, keepdims=True)).mean(axis=0),
            (at_layers / np.nansum(at_layers, axis=1, keepdims=True)).mean(axis=0),
            at_layers.mean(axis=0),
            lengths.mean(axis=0),
            float((np.sqrt(np.square(lengths).sum(axis=1)) / of_classes).mean()),
            float(aim.mean()),
            float(batches["steadiness"].mean()),
        )
