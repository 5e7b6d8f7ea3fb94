"""What `gradients` measured, read: whose pixels pull how hard, for each loss at each weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.bootstrap import Floats
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES

_OF_CLASSES = ("weights", "seed", "step", "loss", "class", "scores")
_OF_BATCHES = ("weights", "seed", "step", "loss", "frames", "wrong", "of_wrong", "steadiness")


@dataclass(frozen=True)
class Pull:
    """One loss's gradient at one kind of weights, means over seeds; k classes, g groups of layers.

    Attributes:
        at_scores: (k,) each class's share of the sum of |dL/ds|, summing to 1; nan where absent.
        at_layers: (k, g) its share of the lengths of what the classes send to a group of layers,
            summing to 1 over the classes.
        of_classes: (k, g) the length of what each class sends to a group of layers; nan where
            absent.
        lengths: (g,) of the gradient of each group, all classes together.
        agreement: the length of the whole gradient over the sum of the classes' lengths: 1 if all
            pull the same way, 0 if they cancel.
        aim: how many times as hard a wrongly predicted pixel pulls as the average pixel; nan if
            none is wrong.
        steadiness: the cosine between the gradients of two batches.
    """

    at_scores: Floats
    at_layers: Floats
    of_classes: Floats
    lengths: Floats
    agreement: float
    aim: float
    steadiness: float

    def rare(self, is_rare: NDArray[np.bool_]) -> float:
        """The share of the rare classes at the scores."""
        return float(np.nansum(self.at_scores[is_rare]))

    def rare_at_layers(self, is_rare: NDArray[np.bool_]) -> Floats:
        """(g,): their share at the layers."""
        return np.asarray(np.nansum(self.at_layers[is_rare], axis=0))


@dataclass(frozen=True)
class Pulls:
    """All of it.

    Attributes:
        layers: the g groups, from the pixels up.
        steps: by kind of weights, `start` and then the losses that trained them: after how many
            steps.
        of: by (weights, loss).
        seeds: that were looked at.
        frames: of a batch.
    """

    layers: list[str]
    steps: dict[str, int]
    of: dict[tuple[str, str], Pull]
    seeds: int
    frames: int

    @property
    def start(self) -> str:
        """What the weights before the first step are called."""
        return next(weights for weights, step in self.steps.items() if step == 0)

    @property
    def trained(self) -> list[str]:
        """The kinds of weights after training."""
        return [weights for weights, step in self.steps.items() if step > 0]


def read_pulls(folder: Path, losses: Sequence[str]) -> Pulls:
    """Read the tables of `gradients`.

    Raises:
        ValueError: if one is missing, lacks a column, or is of other losses.
    """
    classes = _read(folder / "classes.csv", _OF_CLASSES)
    batches = _read(folder / "batches.csv", _OF_BATCHES)
    for table, file in ((classes, "classes.csv"), (batches, "batches.csv")):
        if set(table["loss"]) != set(losses) or not set(losses) <= set(table["weights"]):
            raise ValueError(f"{folder / file} is of other losses: run `dvc repro gradients`")
    layers = [name for name in classes.columns if name not in _OF_CLASSES]
    steps = dict(zip(batches["weights"].tolist(), batches["step"].tolist(), strict=True))
    of = {
        (weights, loss): _pull(_part(classes, weights, loss), _part(batches, weights, loss), layers)
        for weights in steps
        for loss in losses
    }
    return Pulls(layers, steps, of, batches["seed"].nunique(), int(batches["frames"].max()))


def share_table(pulls: Pulls) -> pd.DataFrame:
    """A row per weights, loss and class: its share at the scores and at each group of layers.

    After these columns, the length of what the class sends to each group: `length_` and its name.
    """
    tables = []
    for (weights, loss), pull in pulls.of.items():
        begin = {"weights": weights, "step": pulls.steps[weights], "loss": loss}
        columns = {"class": CLASS_NAMES, "scores": pull.at_scores}
        layers = dict(zip(pulls.layers, pull.at_layers.T, strict=True))
        names = [f"length_{layer}" for layer in pulls.layers]
        lengths = dict(zip(names, pull.of_classes.T, strict=True))
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


def _part(table: pd.DataFrame, weights: str, loss: str) -> pd.DataFrame:
    return table[(table["weights"] == weights) & (table["loss"] == loss)]


def _pull(classes: pd.DataFrame, batches: pd.DataFrame, layers: list[str]) -> Pull:
    at_scores = classes["scores"].to_numpy(float).reshape(-1, NUM_CLASSES)  # (s, k)
    at_layers = classes[layers].to_numpy(float).reshape(-1, NUM_CLASSES, len(layers))  # (s, k, g)
    lengths = batches[layers].to_numpy(float)  # (s, g)
    of_classes = np.nansum(np.sqrt(np.square(at_layers).sum(axis=2)), axis=1)  # (s,)
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is wrong, or nothing pulls
        aim = batches["of_wrong"].to_numpy(float) / batches["wrong"].to_numpy(float)
        return Pull(
            (at_scores / np.nansum(at_scores, axis=1, keepdims=True)).mean(axis=0),
            (at_layers / np.nansum(at_layers, axis=1, keepdims=True)).mean(axis=0),
            at_layers.mean(axis=0),
            lengths.mean(axis=0),
            float((np.sqrt(np.square(lengths).sum(axis=1)) / of_classes).mean()),
            float(aim.mean()),
            float(batches["steadiness"].mean()),
        )
