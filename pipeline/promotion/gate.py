"""The gate: whether a challenger takes the champion's place, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import (
    CONFIDENCE_LEVEL,
    Floats,
    Intervals,
    estimate_intervals,
    resample,
    sample_frames,
)
from pipeline.evaluation.scores import Scores, compute_class_iou
from pipeline.formatting import format_count, format_percent, format_points
from pipeline.params.promote import Promote
from segformer.cityscapes import CLASS_NAMES

MIOU, FIRST_CLASS = 0, 1
"""Where things stand among the quantities compared: mIoU, then the IoU of each class."""


class GateOutcome(StrEnum):
    """What the gate comes to."""

    FIRST = "first champion"
    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "not distinguishable"
    CLASS_REGRESSED = "a class lost too much"
    PROTOCOL_MISMATCH = "unlike protocol"
    DATA_MISMATCH = "unlike data"
    NO_CHAMPION_SCORES = "missing champion scores"
    ROLLED_BACK = "rolled back before"
    ALREADY_CHAMPION = "champion already"
    FORCED = "promoted regardless"


@dataclass(frozen=True)
class PairedScores:
    """Two models on the same frames.

    Attributes:
        protocol: by which both were measured.
        num_frames: scored.
        champion: (1 + k,) mIoU and the IoU of each class; nan where a class never occurs.
        challenger: (1 + k,) likewise.
        difference: the challenger's less the champion's, frame by frame.
    """

    protocol: str
    num_frames: int
    champion: Floats
    challenger: Floats
    difference: Intervals


@dataclass(frozen=True)
class Decision:
    """What the gate decided.

    Attributes:
        outcome: in one word or a few.
        reason: in a sentence.
        scores: the figures behind it; None if nothing was to be compared.
    """

    outcome: GateOutcome
    reason: str
    scores: PairedScores | None = None

    @property
    def is_promoted(self) -> bool:
        """Whether the challenger becomes champion."""
        return self.outcome in (GateOutcome.FIRST, GateOutcome.BETTER, GateOutcome.FORCED)


def decide(rules: Promote, challenger: Scores, champion: Scores) -> Decision:
    """Compare a challenger with the champion, frame by frame.

    It is promoted if its mIoU is higher beyond chance and no class loses more than allowed. A
    class's loss is taken as measured, however wide its interval: what few frames show of a rare
    class may be chance, but then the champion stays.
    """
    if refusal := _find_mismatch(challenger, champion):
        return refusal
    contest = _compare(challenger, champion, rules)
    difference = contest.difference
    gain, p = difference.value[MIOU], difference.p[MIOU]
    told = f"{_format_gain(difference)} on {format_count(contest.num_frames, 'frame')}"
    if (
        not p < 1 - CONFIDENCE_LEVEL
    ):  # nan, where one frame cannot tell, is no reason to promote either
        return Decision(
            GateOutcome.INCONCLUSIVE, f"the difference in mIoU may be chance: {told}", contest
        )
    if gain < 0:
        return Decision(GateOutcome.WORSE, f"mIoU is lower: {told}", contest)
    lost = find_lost_classes(contest, rules.max_class_loss)
    if lost:
        names = ", ".join(
            f"{CLASS_NAMES[k]} {_format_points(difference, FIRST_CLASS + k)}" for k in lost
        )
        allowed = format_points(rules.max_class_loss, sign=False)
        return Decision(
            GateOutcome.CLASS_REGRESSED,
            f"mIoU is higher, {told}, but more than {allowed} points of IoU are lost by {names}",
            contest,
        )
    return Decision(GateOutcome.BETTER, f"mIoU is higher: {told}", contest)


def find_lost_classes(scores: PairedScores, max_class_loss: float) -> Sequence[int]:
    """Return the train ids of the classes that lose more IoU than allowed, the worst one first."""
    change = scores.difference.value[FIRST_CLASS:]
    order = np.argsort(change, kind="stable")  # nan, a class that never occurs, comes last
    # A rounding error is no loss: 0.65 less 0.60 is a little more than 0.05.
    return [int(k) for k in order if change[k] < -max_class_loss - 1e-9]


def _find_mismatch(challenger: Scores, champion: Scores) -> Decision | None:
    """Refuse to compare what was not measured alike."""
    if challenger.protocol != champion.protocol:
        return Decision(
            GateOutcome.PROTOCOL_MISMATCH,
            f"the challenger was measured by {challenger.protocol}, the champion by"
            f" {champion.protocol}",
        )
    if challenger.frames != champion.frames:
        odd = sorted(set(challenger.frames) ^ set(champion.frames))
        which = f"only one of them on {odd[0]}" if odd else "in another order"
        return Decision(GateOutcome.DATA_MISMATCH, f"they were scored on other frames ({which})")
    # The same labels have the same true pixels of each class, whatever was predicted.
    truths = [scores.confusions.sum(axis=2) for scores in (challenger, champion)]
    changed = np.flatnonzero((truths[0] != truths[1]).any(axis=1))
    if changed.size:
        return Decision(
            GateOutcome.DATA_MISMATCH,
            f"the labels of {format_count(changed.size, 'frame')} have changed since the champion was"
            f" scored (first: {challenger.frames[changed[0]]})",
        )
    return None


def _compare(challenger: Scores, champion: Scores, rules: Promote) -> PairedScores:
    draws = sample_frames(len(champion.frames), rules.bootstrap, rules.seed)
    (ours, our_samples), (theirs, their_samples) = (
        (_compute_ious(one.total), _compute_ious(resample(one.confusions, draws)))
        for one in (challenger, champion)
    )
    occurs = champion.confusions.sum(axis=2) > 0  # (n, k)
    occurrences = np.append(occurs.any(axis=1).sum(), occurs.sum(axis=0))
    difference = estimate_intervals(
        (ours - theirs)[None], (our_samples - their_samples)[None], occurrences
    )
    return PairedScores(
        champion.protocol, len(champion.frames), theirs, ours, difference.clip(-1, 1)
    )


def _compute_ious(confusion: NDArray[np.int64] | Floats) -> Floats:
    """(..., k, k) counts -> (..., 1 + k): mIoU, and the IoU of each class."""
    iou = compute_class_iou(confusion)
    known = ~np.isnan(iou)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, iou, 0).sum(axis=-1, keepdims=True) / known.sum(-1, keepdims=True)
    return np.concatenate([mean, iou], axis=-1)


def _format_gain(difference: Intervals) -> str:
    return f"{_format_points(difference, MIOU, digits=2)} points of mIoU"


def _format_points(difference: Intervals, index: int, digits: int = 1) -> str:
    value, low, high = (ends[index] for ends in (difference.value, difference.low, difference.high))
    if np.isnan(low):
        return f"{format_points(value, digits=digits)} (no interval)"
    ends = f"{format_points(low, digits=digits)} to {format_points(high, digits=digits)}"
    return f"{format_points(value, digits=digits)} ({format_percent(CONFIDENCE_LEVEL, 0)} % interval {ends})"
