"""Reads and summarizes the tables of `gradients`: each loss's gradient by class and layer."""

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
        logit_share: (k,) each class's share of the sum of |dL/ds| over the logits s, summing to 1;
            nan where a class is absent.
        layer_share: (k, g) each class's share of the summed L2 norms of the classes' gradients at
            a group of layers, summing to 1 over the classes; nan where a class is absent.
        class_norms: (k, g) L2 norm of each class's gradient at each group of layers; nan where a
            class is absent.
        gradient_norms: (g,) L2 norm of the total gradient at each group of layers.
        class_alignment: norm of the total gradient over the sum of the classes' norms: 1 if the
            gradients of all classes point the same way, 0 if they cancel.
        error_focus: mean |dL/ds| of a wrongly predicted pixel over that of the average pixel; nan
            if no pixel is wrong.
        batch_cosine: cosine similarity of the gradients of two batches.
    """

    logit_share: Floats
    layer_share: Floats
    class_norms: Floats
    gradient_norms: Floats
    class_alignment: float
    error_focus: float
    batch_cosine: float

    def rare_logit_share(self, is_rare: NDArray[np.bool_]) -> float:
        """The rare classes' share of the gradient at the logits."""
        return float(np.nansum(self.logit_share[is_rare]))

    def rare_layer_share(self, is_rare: NDArray[np.bool_]) -> Floats:
        """(g,): the rare classes' share of the gradient at each group of layers."""
        return np.asarray(np.nansum(self.layer_share[is_rare], axis=0))


@dataclass(frozen=True)
class GradientResults:
    """The gradients of all losses at all weights.

    Attributes:
        layers: the g groups of layers, from the input to the classifier.
        steps: the number of training steps by kind of weights: `initial_weights`, then the losses
            that the weights were trained with.
        summaries: by (weights, loss).
        num_seeds: the number of seeds measured.
        num_frames: the number of frames per batch.
    """

    layers: list[str]
    steps: dict[str, int]
    summaries: dict[tuple[str, str], GradientSummary]
    num_seeds: int
    num_frames: int

    @property
    def initial_weights(self) -> str:
        """The name of the weights before the first training step."""
        return next(weights for weights, step in self.steps.items() if step == 0)

    @property
    def trained_weights(self) -> list[str]:
        """The names of the weights after training."""
        return [weights for weights, step in self.steps.items() if step > 0]


def read_gradients(folder: Path, losses: Sequence[str]) -> GradientResults:
    """Read the tables of `gradients`.

    Raises:
        ValueError: if a table or a column is missing, or the losses differ.
    """
    classes = _read(folder / "classes.csv", _CLASS_COLUMNS)
    batches = _read(folder / "batches.csv", _BATCH_COLUMNS)
    for table, file in ((classes, "classes.csv"), (batches, "batches.csv")):
        if set(table["loss"]) != set(losses) or not set(losses) <= set(table["weights"]):
            raise ValueError(f"{folder / file} has other losses: run `dvc repro gradients`")
    layers = [name for name in classes.columns if name not in _CLASS_COLUMNS]
    steps = dict(zip(batches["weights"].tolist(), batches["step"].tolist(), strict=True))
    summaries = {
        (weights, loss): _summarize(
            _select_rows(classes, weights, loss), _select_rows(batches, weights, loss), layers
        )
        for weights in steps
        for loss in losses
    }
    return GradientResults(
        layers, steps, summaries, batches["seed"].nunique(), int(batches["frames"].max())
    )


def build_share_table(gradients: GradientResults) -> pd.DataFrame:
    """Build a row per weights, loss and class, with the class's part of the gradient.

    Columns: weights, step, loss, class; its share at the logits (`scores`) and at each group of
    layers; its L2 norm at each group (`length_` and the group's name).
    """
    tables = []
    for (weights, loss), summary in gradients.summaries.items():
        keys = {"weights": weights, "step": gradients.steps[weights], "loss": loss}
        logits = {"class": CLASS_NAMES, "scores": summary.logit_share}
        shares = dict(zip(gradients.layers, summary.layer_share.T, strict=True))
        norm_columns = [f"length_{layer}" for layer in gradients.layers]
        norms = dict(zip(norm_columns, summary.class_norms.T, strict=True))
        tables.append(pd.DataFrame(keys | logits | shares | norms))
    return pd.concat(tables)


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro gradients`") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]}: run `dvc repro gradients`")
    return table


def _select_rows(table: pd.DataFrame, weights: str, loss: str) -> pd.DataFrame:
    return table[(table["weights"] == weights) & (table["loss"] == loss)]


def _summarize(classes: pd.DataFrame, batches: pd.DataFrame, layers: list[str]) -> GradientSummary:
    at_logits = classes["scores"].to_numpy(float).reshape(-1, NUM_CLASSES)  # (s, k)
    at_layers = classes[layers].to_numpy(float).reshape(-1, NUM_CLASSES, len(layers))  # (s, k, g)
    norms = batches[layers].to_numpy(float)  # (s, g)
    class_norms = np.nansum(np.sqrt(np.square(at_layers).sum(axis=2)), axis=1)  # (s,)
    # No pixel may be wrong, and a gradient may be 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        error_focus = batches["of_wrong"].to_numpy(float) / batches["wrong"].to_numpy(float)
        return GradientSummary(
            logit_share=(at_logits / np.nansum(at_logits, axis=1, keepdims=True)).mean(axis=0),
            layer_share=(at_layers / np.nansum(at_layers, axis=1, keepdims=True)).mean(axis=0),
            class_norms=at_layers.mean(axis=0),
            gradient_norms=norms.mean(axis=0),
            class_alignment=float((np.sqrt(np.square(norms).sum(axis=1)) / class_norms).mean()),
            error_focus=float(error_focus.mean()),
            batch_cosine=float(batches["steadiness"].mean()),
        )
