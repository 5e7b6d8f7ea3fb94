"""Compare our scores with those of the official Cityscapes script."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import Floats
from pipeline.evaluation.counts import nanmean
from segformer.cityscapes import CLASS_NAMES, CLASSES
from segformer.metrics.confusion import CATEGORIES, category_iou, class_iou
from segformer.metrics.instances import (
    INSTANCE_CATEGORIES,
    INSTANCE_CLASSES,
    category_instance_iou,
    instance_iou,
)

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
"""By kind, the script's names of the scores and of their mean, and the mean in metrics.json."""


@dataclass(frozen=True)
class ScoreRow:
    """One score, by the script and by us; nan where undefined."""

    kind: str
    name: str
    official: float
    ours: float

    @property
    def is_equal(self) -> bool:
        """Whether both are equal to the last digit that the script prints."""
        return _format_score(self.official) == _format_score(self.ours)

    def __str__(self) -> str:
        mark = "" if self.is_equal else "  differs"
        scores = f"{_format_score(self.official):>6} {_format_score(self.ours):>6}"
        return f"{self.kind:<14} {self.name:<14} {scores}{mark}"


@dataclass(frozen=True)
class TotalCounts:
    """The counts of all frames together.

    Attributes:
        confusion: (19, 19) int64.
        instances: (10, 2) float64; None without annotated instances.
    """

    confusion: NDArray[np.int64]
    instances: Floats | None


def compare_scores(script_results: Mapping[str, Any], totals: TotalCounts) -> list[ScoreRow]:
    """Pair the script's scores with ours, kind by kind, each with its mean.

    Without annotated instances iIoU is left out: the script then reports a meaningless 0.
    """
    rows = []
    for kind, names, ours in _compute_scores(totals):
        scores_key, mean_key, _ = _SCORE_KINDS[kind]
        rows += [
            ScoreRow(kind, name, float(script_results[scores_key][name]), value)
            for name, value in zip(names, ours.tolist(), strict=True)
        ]
        rows.append(ScoreRow(kind, "mean", float(script_results[mean_key]), nanmean(ours)))
    return rows


def compare_metrics(
    script_results: Mapping[str, Any], metrics: Mapping[str, Any], *, has_instances: bool
) -> list[ScoreRow]:
    """Pair the script's means, rounded to six digits, with those of metrics.json."""
    rows = []
    for kind, (_, mean_key, name) in _SCORE_KINDS.items():
        if has_instances or not kind.endswith("iIoU"):
            value = metrics.get(name)
            official = round(float(script_results[mean_key]), 6)
            ours = math.nan if value is None else float(value)
            rows.append(ScoreRow(kind, "metrics.json", official, ours))
    return rows


def official_confusion(script_results: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the (19, 19) part of the script's confusion matrix, which has a row per label id."""
    label_ids = [label.label_id for label in CLASSES]
    confusion = np.asarray(script_results["confMatrix"], dtype=np.int64)
    return confusion[np.ix_(label_ids, label_ids)]


def _compute_scores(totals: TotalCounts) -> Iterator[tuple[str, tuple[str, ...], Floats]]:
    """Give the kind, the names and the (k,) scores."""
    confusion, instances = totals.confusion, totals.instances
    yield "class IoU", tuple(CLASS_NAMES), np.asarray(class_iou(confusion))
    yield "category IoU", tuple(CATEGORIES), np.asarray(category_iou(confusion))
    if instances is not None:
        names = tuple(label.name for label in INSTANCE_CLASSES)
        yield "class iIoU", names, np.asarray(instance_iou(instances, confusion))
        by_category = np.asarray(category_instance_iou(instances, confusion))
        yield "category iIoU", INSTANCE_CATEGORIES, by_category


def _format_score(score: float) -> str:
    return f"{score:.3f}"  # as the script does
