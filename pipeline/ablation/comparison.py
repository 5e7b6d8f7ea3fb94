"""Losses compared: scores and paired differences, over all classes, rare ones and each one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.ablation.arms import Arm
from pipeline.evaluation.bootstrap import (
    Floats,
    Intervals,
    adjust_p_values,
    estimate_intervals,
    resample,
    sample_frames,
)
from pipeline.evaluation.scores import compute_class_iou
from segformer.metrics.calibration import expected_calibration_error

ALL, RARE, FREQUENT, CALIBRATION, FIRST_CLASS = 0, 1, 2, 3, 4
"""Where things stand among the q quantities compared: three means of IoU, the expected calibration
error, then the IoU of each class."""


@dataclass(frozen=True)
class LossResult:
    """What came of one loss.

    Attributes:
        scores: its mIoU (ALL), that of the RARE and FREQUENT classes, its error of CALIBRATION,
            and the IoU of every class.
        seed_std: (q,) standard deviation over seeds; nan with one seed.
        difference: its scores less the baseline's, frame by frame and seed by seed; None for the
            baseline itself.
        p_holm: of the differences per class, corrected for the number of classes.
        p_groups: of the differences of the rare and of the frequent classes, corrected for two.
        p_arm: of the difference in mIoU, corrected for the number of losses compared.
        validation: (m, seeds) mIoU during training, a column per arm, by step.
        calibration: (m, 3) counts per bin of confidence, over all frames and seeds.
    """

    scores: Intervals
    seed_std: Floats
    difference: Intervals | None
    p_holm: Floats | None
    p_groups: Floats | None
    p_arm: float | None
    validation: pd.DataFrame
    calibration: Floats


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
        is_rare: (k,) whether a class has less than the median share of those that occur in
            training.
        is_frequent: (k,) whether it has that much or more.
        is_predicted_only: (k,) whether an arm predicts it and no frame has it; in no mean of IoU.
        results: by loss.
    """

    protocol: str
    num_frames: int
    seeds: list[int]
    steps: int
    baseline: str
    share: Floats
    is_rare: NDArray[np.bool_]
    is_frequent: NDArray[np.bool_]
    is_predicted_only: NDArray[np.bool_]
    results: dict[str, LossResult]

    @property
    def challengers(self) -> list[str]:
        """The losses other than the baseline."""
        return [loss for loss in self.results if loss != self.baseline]


def compare_losses(
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
    is_rare, is_frequent = _split_by_share(share)
    is_scored = first.scores.confusions.sum(axis=(0, 2)) > 0
    groups = (is_scored, is_scored & is_rare, is_scored & is_frequent)
    draws = sample_frames(len(first.scores.frames), resamples, seed)
    occurrences = _count_occurrences(first.scores.confusions, groups)
    measured = {loss: _measure_all(of_loss, draws, groups) for loss, of_loss in arms.items()}
    differences = {
        loss: estimate_intervals(
            values - measured[baseline][0], replicates - measured[baseline][1], occurrences
        ).clip(-1, 1)
        for loss, (values, replicates) in measured.items()
        if loss != baseline
    }
    p_arms = adjust_p_values(np.array([difference.p[ALL] for difference in differences.values()]))
    p_arm = dict(zip(differences, p_arms.tolist(), strict=True))
    results = {}
    for loss, (values, replicates) in measured.items():
        difference = differences.get(loss)
        results[loss] = LossResult(
            estimate_intervals(values, replicates, occurrences).clip(0, 1),
            _std_over_seeds(values),
            difference,
            adjust_p_values(difference.p[FIRST_CLASS:]) if difference else None,
            adjust_p_values(difference.p[[RARE, FREQUENT]]) if difference else None,
            p_arm.get(loss),
            _validation_curves(arms[loss]),
            np.sum([arm.calibrations.sum(axis=0) for arm in arms[loss]], axis=0),
        )
    return Comparison(
        first.scores.protocol,
        len(first.scores.frames),
        list(seeds),
        first.steps,
        baseline,
        share,
        is_rare,
        is_frequent,
        _find_predicted(arms) & ~is_scored,
        results,
    )


_ClassMask = NDArray[np.bool_]
"""(k,) which classes are meant."""

_ClassGroups = tuple[_ClassMask, _ClassMask, _ClassMask]
"""Of the classes with true pixels on the frames: all, the rare ones, the frequent ones.

The same in every arm, seed and sample: the official mean counts a class that never occurs as 0
as soon as one pixel is taken for it, and that pixel would decide between two arms.
"""

_ValuesAndReplicates = tuple[Floats, Floats]
"""(s, q) of s seeds on all frames, and (s, r, q) on every sample of frames."""


def _split_by_share(share: Floats) -> tuple[_ClassMask, _ClassMask]:
    """Rare classes and frequent ones; what never occurs in training is neither."""
    occurs = share > 0
    median = np.median(share[occurs]) if occurs.any() else 0.0
    return occurs & (share < median), occurs & (share >= median)


def _find_predicted(arms: Mapping[str, Sequence[Arm]]) -> _ClassMask:
    """(k,) whether any arm takes a pixel for it."""
    every = [arm.scores.total.sum(axis=0) for of_loss in arms.values() for arm in of_loss]
    return np.asarray(np.sum(every, axis=0) > 0)


def _measure_all(arms: Sequence[Arm], draws: Floats, groups: _ClassGroups) -> _ValuesAndReplicates:
    values, replicates = [], []
    for arm in arms:
        confusions, calibrations = arm.scores.confusions, arm.calibrations
        values.append(_measure(confusions.sum(axis=0), calibrations.sum(axis=0), groups))
        replicates.append(
            _measure(resample(confusions, draws), resample(calibrations, draws), groups)
        )
    return np.stack(values), np.stack(replicates)


def _measure(
    confusion: NDArray[np.int64] | Floats, calibration: Floats, groups: _ClassGroups
) -> Floats:
    """(..., k, k) and (..., m, 3) counts -> (..., q), in the order of the places above."""
    is_true = confusion.sum(axis=-1) > 0
    iou = np.where(is_true, compute_class_iou(confusion), np.nan)
    means = [_mean_over(iou, group) for group in groups]
    error = np.asarray(expected_calibration_error(calibration))
    return np.concatenate([np.stack([*means, error], axis=-1), iou], axis=-1)


def _mean_over(iou: Floats, group: _ClassMask) -> Floats:
    """(..., k) -> (...); a class that a sample has no frame of counts 0 there, in every arm."""
    if not group.any():
        return np.full(iou.shape[:-1], np.nan)
    return np.asarray(np.nan_to_num(iou[..., group]).mean(axis=-1))


def _count_occurrences(confusions: NDArray[np.int64], groups: _ClassGroups) -> NDArray[np.int64]:
    """(n, k, k) -> (q,): in how many frames there are true pixels to be measured on."""
    occurs = confusions.sum(axis=2) > 0  # (n, k)
    everything = np.full(occurs.shape[1], True)  # of calibration
    means = [occurs[:, group].any(axis=1) for group in (*groups, everything)]
    return np.asarray(np.concatenate([np.stack(means, axis=1), occurs], axis=1).sum(axis=0))


def _std_over_seeds(values: Floats) -> Floats:
    if len(values) < 2:
        return np.full(values.shape[1], np.nan)
    return np.asarray(values.std(axis=0, ddof=1))


def _validation_curves(arms: Sequence[Arm]) -> pd.DataFrame:
    columns = [arm.validation.set_index("step")["val_miou"].rename(arm.name) for arm in arms]
    return pd.concat(columns, axis=1).sort_index()
