"""Losses compared: scores and paired differences, for all classes, rare ones and each one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arms import Arm
from pipeline.bootstrap import Floats, Intervals, draw_frames, estimate, holm, resample
from pipeline.scores import iou_by_class

ALL, RARE, FREQUENT, FIRST_CLASS = 0, 1, 2, 3
"""Where things stand among the quantities compared: three means, then the IoU of each class."""


@dataclass(frozen=True)
class Result:
    """What came of one loss.

    Attributes:
        scores: its mIoU (ALL), that of the RARE and FREQUENT classes, and the IoU of every class.
        deviation: (q,) standard deviation over seeds; nan with one seed.
        difference: its scores less the baseline's, frame by frame and seed by seed; None for the
            baseline itself.
        p_holm: of the differences per class, corrected for the number of classes.
        p_arm: of the difference in mIoU, corrected for the number of losses compared.
        validation: (m, seeds) mIoU during training, a column per arm, by step.
    """

    scores: Intervals
    deviation: Floats
    difference: Intervals | None
    p_holm: Floats | None
    p_arm: float | None
    validation: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """All losses at one budget, on the same frames, with the same seeds.

    Attributes:
        protocol: by which all were measured.
        num_frames: scored.
        seeds: that each loss was trained with.
        steps: the budget of training.
        baseline: the loss that the others are compared with.
        share: (k,) of the labelled training pixels, by class.
        is_rare: (k,) whether a class has less than the median share.
        results: by loss.
    """

    protocol: str
    num_frames: int
    seeds: list[int]
    steps: int
    baseline: str
    share: Floats
    is_rare: NDArray[np.bool_]
    results: dict[str, Result]

    @property
    def challengers(self) -> list[str]:
        """The losses other than the baseline."""
        return [loss for loss in self.results if loss != self.baseline]


def compare(
    arms: Mapping[str, Sequence[Arm]],
    *,
    seeds: Sequence[int],
    baseline: str,
    share: Floats,
    resamples: int,
    seed: int,
) -> Comparison:
    """Compare losses.

    Args:
        arms: for each loss one arm per seed, as `read_arms` returns them.
        seeds: of the arms.
        baseline: one of the losses.
        share: (k,) of the labelled training pixels, by class.
        resamples: of frames behind every interval; the same frames for every loss.
        seed: of the resampling.
    """
    first = arms[baseline][0]
    is_rare = share < np.median(share)
    draws = draw_frames(len(first.scores.frames), resamples, seed)
    occurrences = _occurrences(first.scores.confusions, is_rare)
    measured = {loss: _measure_all(of_loss, draws, is_rare) for loss, of_loss in arms.items()}
    differences = {
        loss: estimate(
            values - measured[baseline][0], replicates - measured[baseline][1], occurrences
        ).within(-1, 1)
        for loss, (values, replicates) in measured.items()
        if loss != baseline
    }
    p_arms = holm(np.array([difference.p[ALL] for difference in differences.values()]))
    p_arm = dict(zip(differences, p_arms.tolist(), strict=True))
    results = {}
    for loss, (values, replicates) in measured.items():
        difference = differences.get(loss)
        results[loss] = Result(
            estimate(values, replicates, occurrences).within(0, 1),
            _deviation(values),
            difference,
            holm(difference.p[FIRST_CLASS:]) if difference else None,
            p_arm.get(loss),
            _validation(arms[loss]),
        )
    return Comparison(
        first.scores.protocol,
        len(first.scores.frames),
        list(seeds),
        first.steps,
        baseline,
        share,
        is_rare,
        results,
    )


_Measured = tuple[Floats, Floats]
"""(s, q) of s seeds on all frames, and (s, r, q) on every sample of frames."""


def _measure_all(arms: Sequence[Arm], draws: Floats, is_rare: NDArray[np.bool_]) -> _Measured:
    confusions = [arm.scores.confusions for arm in arms]
    values = [_measure(one.sum(axis=0), is_rare) for one in confusions]
    replicates = [_measure(resample(one, draws), is_rare) for one in confusions]
    return np.stack(values), np.stack(replicates)


def _measure(confusion: NDArray[np.int64] | Floats, is_rare: NDArray[np.bool_]) -> Floats:
    """(..., k, k) counts -> (..., 3 + k): mIoU of all, rare and frequent classes, and of each."""
    iou = iou_by_class(confusion)
    means = [_known_mean(iou[..., group]) for group in (slice(None), is_rare, ~is_rare)]
    return np.concatenate([np.stack(means, axis=-1), iou], axis=-1)


def _known_mean(iou: Floats) -> Floats:
    known = ~np.isnan(iou)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, iou, 0).sum(axis=-1) / known.sum(axis=-1)
    return mean


def _occurrences(confusions: NDArray[np.int64], is_rare: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n, k, k) -> (3 + k,): in how many frames there are true pixels to be measured on."""
    occurs = confusions.sum(axis=2) > 0  # (n, k)
    groups = [occurs[:, group].any(axis=1) for group in (slice(None), is_rare, ~is_rare)]
    return np.asarray(np.concatenate([np.stack(groups, axis=1), occurs], axis=1).sum(axis=0))


def _deviation(values: Floats) -> Floats:
    if len(values) < 2:
        return np.full(values.shape[1], np.nan)
    return np.asarray(values.std(axis=0, ddof=1))


def _validation(arms: Sequence[Arm]) -> pd.DataFrame:
    columns = [arm.validation.set_index("step")["val_miou"].rename(arm.name) for arm in arms]
    return pd.concat(columns, axis=1).sort_index()
