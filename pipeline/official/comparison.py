"""Scores by the official Cityscapes script beside ours, and where they differ."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segformer.images import decode_png
from pipeline.evaluation.bootstrap import Floats
from pipeline.evaluation.counts import nanmean
from pipeline.parallel import cpu_count
from segformer.cityscapes import CLASS_NAMES
from segformer.metrics.confusion import CATEGORIES, category_iou, class_iou
from segformer.metrics.instances import (
    INSTANCE_CATEGORIES,
    INSTANCE_CLASSES,
    category_instance_iou,
    instance_iou,
)
from segformer.metrics.run_lengths import count_label_ids

_SCORE_KINDS = {
    "class IoU": ("classScores", "averageScoreClasses", "miou"),
    "category IoU": ("categoryScores", "averageScoreCategories", "category_miou"),
    "class iIoU": ("classInstScores", "averageScoreInstClasses", "instance_iou"),
    "category iIoU": (
        "categoryInstScores",
        "averageScoreInstCategories",
        "category_instance_iou",
    ),
}
"""The script's names of the scores and of their mean, and the mean's name in metrics.json."""


@dataclass(frozen=True)
class ScoreRow:
    """One score, by the script and by us; nan where undefined."""

    kind: str
    name: str
    official: float
    ours: float

    @property
    def is_equal(self) -> bool:
        """Whether they are, to the last digit that the script prints."""
        return _format_score(self.official) == _format_score(self.ours)

    def __str__(self) -> str:
        mark = "" if self.is_equal else "  differs"
        numbers = f"{_format_score(self.official):>6} {_format_score(self.ours):>6}"
        return f"{self.kind:<14} {self.name:<14} {numbers}{mark}"


@dataclass(frozen=True)
class TotalCounts:
    """What was counted on all frames.

    Attributes:
        confusion: (19, 19) int64, or with more columns: what is predicted beside the classes.
        instances: (10, 2) float64; None where none are annotated.
    """

    confusion: NDArray[np.int64]
    instances: Floats | None

    def is_close(self, other: "TotalCounts") -> bool:
        """Whether both are of the same pixels: sums of weights may differ by rounding."""
        if self.instances is None or other.instances is None:
            same_instances = self.instances is other.instances
        else:
            same_instances = np.allclose(self.instances, other.instances, rtol=1e-9)
        return np.array_equal(self.confusion, other.confusion) and same_instances


def compare_scores(script_results: Mapping[str, Any], totals: TotalCounts) -> list[ScoreRow]:
    """Pair what the script told with our scores, kind by kind, each with its mean.

    Where no instances are annotated, iIoU is left out: there the script says 0 and means nothing.
    """
    rows = []
    for kind, (names, ours) in _compute_scores(totals):
        of_each, of_all, _ = _SCORE_KINDS[kind]
        rows += [
            ScoreRow(kind, name, float(script_results[of_each][name]), value)
            for name, value in zip(names, ours.tolist(), strict=True)
        ]
        rows.append(ScoreRow(kind, "mean", float(script_results[of_all]), nanmean(ours)))
    return rows


def compare_metrics(
    script_results: Mapping[str, Any], metrics: Mapping[str, Any], *, has_instances: bool
) -> list[ScoreRow]:
    """Pair the script's means with those of metrics.json, which has six digits of them."""
    rows = []
    for kind, (_, of_all, name) in _SCORE_KINDS.items():
        if has_instances or not kind.endswith("iIoU"):
            value = metrics.get(name)
            ours = math.nan if value is None else float(value)
            rows.append(
                ScoreRow(kind, "metrics.json", round(float(script_results[of_all]), 6), ours)
            )
    return rows


def _compute_scores(totals: TotalCounts) -> Iterator[tuple[str, tuple[tuple[str, ...], Floats]]]:
    """By kind: of what, and (k,) scores."""
    confusion, weighted = totals.confusion, totals.instances
    yield "class IoU", (tuple(CLASS_NAMES), np.asarray(class_iou(confusion)))
    yield "category IoU", (tuple(CATEGORIES), np.asarray(category_iou(confusion)))
    if weighted is not None:
        names = tuple(one.name for one in INSTANCE_CLASSES)
        yield "class iIoU", (names, np.asarray(instance_iou(weighted, confusion)))
        of_categories = np.asarray(category_instance_iou(weighted, confusion))
        yield "category iIoU", (INSTANCE_CATEGORIES, of_categories)


def _format_score(score: float) -> str:
    return f"{score:.3f}"  # as the script does


def count_pngs(
    predictions: Sequence[Path], truths: Sequence[Path], *, mode: str
) -> tuple[Tensor, Tensor]:
    """Count all frames together.

    Args:
        predictions: a PNG of label ids per frame.
        truths: its instanceIds PNG, or its labelIds PNG where no instances are annotated.
        mode: of the latter, `I;16` or `L`.

    Returns:
        (19, 21) int64 and (10, 2) float64, see `segformer.metrics.run_lengths`.

    Raises:
        ValueError: naming the file, if one cannot be read or holds what it should not.
    """

    def counted(prediction: Path, truth: Path) -> tuple[Tensor, Tensor]:
        told, seen = (
            np.asarray(decode_png(path.read_bytes(), kind, str(path)))
            for path, kind in ((prediction, "L"), (truth, mode))
        )
        try:
            return count_label_ids(told, seen)
        except ValueError as mistake:
            raise ValueError(f"{prediction}: {mistake}") from None

    with ThreadPoolExecutor(cpu_count()) as pool:
        frames = list(pool.map(counted, predictions, truths))
    confusion, instances = frames[0]
    for more in frames[1:]:
        confusion, instances = confusion + more[0], instances + more[1]
    return confusion, instances
