"""Compares losses: mIoU and calibration of each, and their paired differences to a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

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


class Quantity(IntEnum):
    """Index of a mean along the axis of the q compared quantities; the class IoUs follow."""

    MIOU = 0
    """Mean IoU of all classes with true pixels on the frames."""
    RARE_MIOU = 1
    FREQUENT_MIOU = 2
    CALIBRATION_ERROR = 3
    """Expected calibration error."""


CLASS_IOU = slice(len(Quantity), None)
"""The indices of the class IoUs along the same axis, by train id."""


def class_index(train_id: int) -> int:
    """Return the index of one class's IoU along the axis of the q compared quantities."""
    return len(Quantity) + train_id


@dataclass(frozen=True)
class LossResult:
    """The scores of one loss and their differences to the baseline.

    Attributes:
        scores: the q quantities, indexed by Quantity and CLASS_IOU.
        seed_std: (q,) standard deviation over seeds; nan with one seed.
        difference: its scores minus the baseline's, paired by frame and seed; None for the
            baseline itself.
        p_holm: (k,) p-values of the differences per class, corrected for the number of classes.
        p_groups: (2,) p-values of the differences of the rare and of the frequent classes,
            corrected for two.
        p_arm: the p-value of the difference in mIoU, corrected for the number of losses compared.
        validation: (m, seeds) mIoU during training, a column per arm, indexed by step.
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
        protocol: the evaluation protocol of all arms.
        num_frames: the number of scored frames.
        seeds: the seeds that each loss was trained with.
        steps: the training budget.
        baseline: the loss that the others are compared with.
        share: (k,) each class's share of the labeled training pixels.
        is_rare: (k,) whether a class has less than the median share of those that occur in
            training.
        is_frequent: (k,) whether it has that share or more.
        is_predicted_only: (k,) whether an arm predicts a class that no frame has; such a class is
            in no mean of IoU.
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
        """The losses other than the baseline, in order."""
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
        seeds: the seeds of the arms.
        baseline: one of the losses.
        share: (k,) each class's share of the labeled training pixels.
        resamples: the number of bootstrap samples of frames; the same samples for every loss.
        seed: the seed of the bootstrap.
    """
    first = arms[baseline][0]
    is_rare, is_frequent = _split_by_share(share)
    occurs = first.scores.confusions.sum(axis=(0, 2)) > 0
    groups = (occurs, occurs & is_rare, occurs & is_frequent)
    draws = sample_frames(len(first.scores.frames), resamples, seed)
    occurrences = _count_occurrences(first.scores.confusions, groups)
    measured = {loss: _measure_seeds(runs, draws, groups) for loss, runs in arms.items()}
    differences = {
        loss: estimate_intervals(
            values - measured[baseline][0], replicates - measured[baseline][1], occurrences
        ).clip(-1, 1)
        for loss, (values, replicates) in measured.items()
        if loss != baseline
    }
    p_arms = adjust_p_values(
        np.array([difference.p[Quantity.MIOU] for difference in differences.values()])
    )
    p_arm = dict(zip(differences, p_arms.tolist(), strict=True))
    results = {}
    for loss, (values, replicates) in measured.items():
        difference = differences.get(loss)
        results[loss] = LossResult(
            scores=estimate_intervals(values, replicates, occurrences).clip(0, 1),
            seed_std=_std_over_seeds(values),
            difference=difference,
            p_holm=adjust_p_values(difference.p[CLASS_IOU]) if difference else None,
            p_groups=_adjust_group_p_values(difference) if difference else None,
            p_arm=p_arm.get(loss),
            validation=_validation_curves(arms[loss]),
            calibration=np.sum([arm.calibrations.sum(axis=0) for arm in arms[loss]], axis=0),
        )
    return Comparison(
        protocol=first.scores.protocol,
        num_frames=len(first.scores.frames),
        seeds=list(seeds),
        steps=first.steps,
        baseline=baseline,
        share=share,
        is_rare=is_rare,
        is_frequent=is_frequent,
        is_predicted_only=_find_predicted(arms) & ~occurs,
        results=results,
    )


_ClassMask = NDArray[np.bool_]
"""(k,) whether each class belongs to a group."""

_ClassGroups = tuple[_ClassMask, _ClassMask, _ClassMask]
"""All, the rare and the frequent ones of the classes that have true pixels on the frames.

They are the same in every arm, seed and sample: the official mean counts a class that never occurs
as 0 as soon as one pixel is predicted as that class, and that pixel would decide between two arms.
"""

_ValuesAndReplicates = tuple[Floats, Floats]
"""The q quantities of s seeds: (s, q) on all frames and (s, r, q) on r samples of frames."""


def _split_by_share(share: Floats) -> tuple[_ClassMask, _ClassMask]:
    """Return the rare and the frequent classes; a class absent from training is neither."""
    occurs = share > 0
    median = np.median(share[occurs]) if occurs.any() else 0.0
    return occurs & (share < median), occurs & (share >= median)


def _find_predicted(arms: Mapping[str, Sequence[Arm]]) -> _ClassMask:
    """(k,) whether any arm predicts the class for any pixel."""
    predicted = [arm.scores.total.sum(axis=0) for runs in arms.values() for arm in runs]
    return np.asarray(np.sum(predicted, axis=0) > 0)


def _measure_seeds(
    arms: Sequence[Arm], draws: Floats, groups: _ClassGroups
) -> _ValuesAndReplicates:
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
    """(..., k, k) and (..., m, 3) counts -> (..., q), in the order of Quantity and CLASS_IOU."""
    is_true = confusion.sum(axis=-1) > 0
    iou = np.where(is_true, compute_class_iou(confusion), np.nan)
    means = [_mean_over(iou, group) for group in groups]
    error = np.asarray(expected_calibration_error(calibration))
    return np.concatenate([np.stack([*means, error], axis=-1), iou], axis=-1)


def _mean_over(iou: Floats, group: _ClassMask) -> Floats:
    """(..., k) -> (...); a class that no frame of a sample has counts as 0, in every arm."""
    if not group.any():
        return np.full(iou.shape[:-1], np.nan)
    return np.asarray(np.nan_to_num(iou[..., group]).mean(axis=-1))


def _count_occurrences(confusions: NDArray[np.int64], groups: _ClassGroups) -> NDArray[np.int64]:
    """(n, k, k) -> (q,): the number of frames with true pixels of each quantity."""
    occurs = confusions.sum(axis=2) > 0  # (n, k)
    all_classes = np.full(occurs.shape[1], True)  # those of the calibration error
    means = [occurs[:, group].any(axis=1) for group in (*groups, all_classes)]
    return np.asarray(np.concatenate([np.stack(means, axis=1), occurs], axis=1).sum(axis=0))


def _adjust_group_p_values(difference: Intervals) -> Floats:
    return adjust_p_values(difference.p[[Quantity.RARE_MIOU, Quantity.FREQUENT_MIOU]])


def _std_over_seeds(values: Floats) -> Floats:
    if len(values) < 2:
        return np.full(values.shape[1], np.nan)
    return np.asarray(values.std(axis=0, ddof=1))


def _validation_curves(arms: Sequence[Arm]) -> pd.DataFrame:
    columns = [arm.validation.set_index("step")["val_miou"].rename(arm.name) for arm in arms]
    return pd.concat(columns, axis=1).sort_index()
