"""The gate: it decides whether a challenger replaces the champion, and gives the reason."""

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


class GateOutcome(StrEnum):
    """The possible outcomes of the gate, in the words of the tag `gate.outcome`."""

    FIRST = "first champion"
    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"
    CLASS_REGRESSED = "class regressed"
    PROTOCOL_MISMATCH = "protocol mismatch"
    DATA_MISMATCH = "data mismatch"
    NO_CHAMPION_SCORES = "missing champion scores"
    ROLLED_BACK = "rolled back earlier"
    ALREADY_CHAMPION = "already champion"
    FORCED = "promoted by hand"


@dataclass(frozen=True)
class PairedScore:
    """One quantity of two models on the same frames; nan where it is undefined.

    Attributes:
        champion: IoU or mIoU of the champion, a fraction of 1.
        challenger: of the challenger.
        difference: the challenger's minus the champion's, paired by frame.
        low: lower end of the difference's interval; nan with fewer than two frames.
        high: upper end.
        p: two-sided p-value of the difference.
    """

    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class PairedScores:
    """Two models on the same frames.

    Attributes:
        protocol: the evaluation protocol of both.
        num_frames: the number of scored frames.
        miou: their mIoU.
        class_iou: their IoU of each class, by train id.
    """

    protocol: str
    num_frames: int
    miou: PairedScore
    class_iou: list[PairedScore]


@dataclass(frozen=True)
class Decision:
    """The decision of the gate.

    Attributes:
        outcome: in one word or a few.
        reason: in a sentence.
        scores: the compared scores; None if nothing was compared.
    """

    outcome: GateOutcome
    reason: str
    scores: PairedScores | None = None

    @property
    def is_promoted(self) -> bool:
        """Whether the challenger becomes champion."""
        return self.outcome in (GateOutcome.FIRST, GateOutcome.BETTER, GateOutcome.FORCED)


def decide(rules: Promote, challenger: Scores, champion: Scores) -> Decision:
    """Compare a challenger with the champion, paired by frame.

    The challenger is promoted if its mIoU is significantly higher and no class loses more IoU than
    allowed. The loss of a class is taken as measured, however wide its interval: the loss of a rare
    class in few frames may be chance, but the champion stays all the same.
    """
    if mismatch := _find_mismatch(challenger, champion):
        return mismatch
    scores = _compare(challenger, champion, rules)
    gain = (
        f"{_format_difference(scores.miou, digits=2)} points of mIoU"
        f" on {format_count(scores.num_frames, 'frame')}"
    )
    # p is nan with one frame: that is inconclusive too.
    if not scores.miou.p < 1 - CONFIDENCE_LEVEL:
        return Decision(
            GateOutcome.INCONCLUSIVE, f"the difference in mIoU may be chance: {gain}", scores
        )
    if scores.miou.difference < 0:
        return Decision(GateOutcome.WORSE, f"mIoU is lower: {gain}", scores)
    lost = find_regressed_classes(scores, rules.max_class_loss)
    if lost:
        classes = ", ".join(
            f"{CLASS_NAMES[k]} {_format_difference(scores.class_iou[k])}" for k in lost
        )
        allowed = format_points(rules.max_class_loss, sign=False)
        return Decision(
            GateOutcome.CLASS_REGRESSED,
            f"mIoU is higher, {gain}, but these classes lose more than {allowed} points of IoU:"
            f" {classes}",
            scores,
        )
    return Decision(GateOutcome.BETTER, f"mIoU is higher: {gain}", scores)


def find_regressed_classes(scores: PairedScores, max_class_loss: float) -> Sequence[int]:
    """Return the train ids of the classes that lose more IoU than allowed, the worst one first."""
    differences = np.array([score.difference for score in scores.class_iou])
    order = np.argsort(differences, kind="stable")  # nan, a class that never occurs, comes last
    # The tolerance is for rounding errors: 0.65 - 0.60 is a little more than 0.05.
    return [int(k) for k in order if differences[k] < -max_class_loss - 1e-9]


def _find_mismatch(challenger: Scores, champion: Scores) -> Decision | None:
    """Return the refusal to compare scores of different protocols, frames or labels, if any."""
    if challenger.protocol != champion.protocol:
        return Decision(
            GateOutcome.PROTOCOL_MISMATCH,
            f"the challenger was evaluated with {challenger.protocol}, the champion with"
            f" {champion.protocol}",
        )
    if challenger.frames != champion.frames:
        unshared = sorted(set(challenger.frames) ^ set(champion.frames))
        reason = f"only one of them has {unshared[0]}" if unshared else "their order differs"
        return Decision(
            GateOutcome.DATA_MISMATCH, f"they were scored on different frames ({reason})"
        )
    # The same labels have the same true pixels of each class, whatever was predicted.
    true_pixels = [scores.confusions.sum(axis=2) for scores in (challenger, champion)]
    changed = np.flatnonzero((true_pixels[0] != true_pixels[1]).any(axis=1))
    if changed.size:
        return Decision(
            GateOutcome.DATA_MISMATCH,
            f"the labels of {format_count(changed.size, 'frame')} have changed since the champion"
            f" was scored (first: {challenger.frames[changed[0]]})",
        )
    return None


def _compare(challenger: Scores, champion: Scores, rules: Promote) -> PairedScores:
    draws = sample_frames(len(champion.frames), rules.bootstrap, rules.seed)
    (ours, our_samples), (theirs, their_samples) = (
        (_compute_ious(scores.total), _compute_ious(resample(scores.confusions, draws)))
        for scores in (challenger, champion)
    )
    occurs = champion.confusions.sum(axis=2) > 0  # (n, k)
    occurrences = np.append(occurs.any(axis=1).sum(), occurs.sum(axis=0))
    difference = estimate_intervals(
        (ours - theirs)[None], (our_samples - their_samples)[None], occurrences
    ).clip(-1, 1)
    miou, *class_iou = _pair_scores(theirs, ours, difference)
    return PairedScores(champion.protocol, len(champion.frames), miou, class_iou)


def _pair_scores(champion: Floats, challenger: Floats, difference: Intervals) -> list[PairedScore]:
    """(q,), (q,) and intervals of q quantities -> one PairedScore for each."""
    columns = (
        champion,
        challenger,
        difference.value,
        difference.low,
        difference.high,
        difference.p,
    )
    return [PairedScore(*map(float, row)) for row in zip(*columns, strict=True)]


def _compute_ious(confusion: NDArray[np.int64] | Floats) -> Floats:
    """(..., k, k) counts -> (..., 1 + k): mIoU, then the IoU of each class."""
    iou = compute_class_iou(confusion)
    defined = ~np.isnan(iou)
    with np.errstate(invalid="ignore"):
        total = np.where(defined, iou, 0).sum(axis=-1, keepdims=True)
        mean = total / defined.sum(-1, keepdims=True)
    return np.concatenate([mean, iou], axis=-1)


def _format_difference(score: PairedScore, digits: int = 1) -> str:
    difference = format_points(score.difference, digits=digits)
    if np.isnan(score.low):
        return f"{difference} (no interval)"
    low, high = (format_points(end, digits=digits) for end in (score.low, score.high))
    return f"{difference} ({format_percent(CONFIDENCE_LEVEL, 0)} % interval {low} to {high})"
