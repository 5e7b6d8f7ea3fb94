"""The gate: whether a challenger takes the champion's place, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.bootstrap import LEVEL, Floats, Intervals, draw_frames, estimate, resample
from pipeline.scores import Scores, iou_by_class
from pipeline.section import Section
from pipeline.wording import count, percent, points
from segformer.cityscapes import CLASS_NAMES

ALL, FIRST_CLASS = 0, 1
"""Where things stand among the quantities compared: mIoU, then the IoU of each class."""


class Promote(Section):
    """What the gate asks of a challenger that is better on the whole."""

    max_class_loss: Annotated[float, Field(ge=0, le=1)]
    """No class may lose more IoU than this."""
    bootstrap: PositiveInt
    """Resamples of frames behind every interval."""
    seed: NonNegativeInt


class Outcome(StrEnum):
    """What the gate comes to."""

    FIRST = "first champion"
    BETTER = "better"
    WORSE = "worse"
    OPEN = "not distinguishable"
    CLASS_LOST = "a class lost too much"
    UNLIKE_PROTOCOL = "unlike protocol"
    UNLIKE_DATA = "unlike data"
    NO_CHAMPION_SCORES = "missing champion scores"
    ROLLED_BACK = "rolled back before"
    SAME = "champion already"
    REGARDLESS = "promoted regardless"


@dataclass(frozen=True)
class Contest:
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
        contest: the figures behind it; None if nothing was to be compared.
    """

    outcome: Outcome
    reason: str
    contest: Contest | None = None

    @property
    def is_promoted(self) -> bool:
        """Whether the challenger becomes champion."""
        return self.outcome in (Outcome.FIRST, Outcome.BETTER, Outcome.REGARDLESS)


def decide(rules: Promote, challenger: Scores, champion: Scores) -> Decision:
    """Compare a challenger with the champion, frame by frame.

    It is promoted if its mIoU is higher beyond chance and no class loses more than allowed. A
    class's loss is taken as measured, however wide its interval: what few frames show of a rare
    class may be chance, but then the champion stays.
    """
    if refusal := _unlike(challenger, champion):
        return refusal
    contest = _compare(challenger, champion, rules)
    difference = contest.difference
    gain, p = difference.value[ALL], difference.p[ALL]
    told = f"{_gain(difference)} on {count(contest.num_frames, 'frame')}"
    if not p < 1 - LEVEL:  # nan, where one frame cannot tell, is no reason to promote either
        return Decision(Outcome.OPEN, f"the difference in mIoU may be chance: {told}", contest)
    if gain < 0:
        return Decision(Outcome.WORSE, f"mIoU is lower: {told}", contest)
    lost = lost_classes(contest, rules.max_class_loss)
    if lost:
        names = ", ".join(f"{CLASS_NAMES[k]} {_points(difference, FIRST_CLASS + k)}" for k in lost)
        allowed = points(rules.max_class_loss, sign=False)
        return Decision(
            Outcome.CLASS_LOST,
            f"mIoU is higher, {told}, but more than {allowed} points of IoU are lost by {names}",
            contest,
        )
    return Decision(Outcome.BETTER, f"mIoU is higher: {told}", contest)


def lost_classes(contest: Contest, allowed: float) -> Sequence[int]:
    """Return the train ids of the classes that lose more IoU than allowed, the worst one first."""
    change = contest.difference.value[FIRST_CLASS:]
    order = np.argsort(change, kind="stable")  # nan, a class that never occurs, comes last
    # A rounding error is no loss: 0.65 less 0.60 is a little more than 0.05.
    return [int(k) for k in order if change[k] < -allowed - 1e-9]


def _unlike(challenger: Scores, champion: Scores) -> Decision | None:
    """Refuse to compare what was not measured alike."""
    if challenger.protocol != champion.protocol:
        return Decision(
            Outcome.UNLIKE_PROTOCOL,
            f"the challenger was measured by {challenger.protocol}, the champion by"
            f" {champion.protocol}",
        )
    if challenger.frames != champion.frames:
        odd = sorted(set(challenger.frames) ^ set(champion.frames))
        which = f"only one of them on {odd[0]}" if odd else "in another order"
        return Decision(Outcome.UNLIKE_DATA, f"they were scored on other frames ({which})")
    # The same labels have the same true pixels of each class, whatever was predicted.
    truths = [scores.confusions.sum(axis=2) for scores in (challenger, champion)]
    changed = np.flatnonzero((truths[0] != truths[1]).any(axis=1))
    if changed.size:
        return Decision(
            Outcome.UNLIKE_DATA,
            f"the labels of {count(changed.size, 'frame')} have changed since the champion was"
            f" scored (first: {challenger.frames[changed[0]]})",
        )
    return None


def _compare(challenger: Scores, champion: Scores, rules: Promote) -> Contest:
    draws = draw_frames(len(champion.frames), rules.bootstrap, rules.seed)
    (ours, our_samples), (theirs, their_samples) = (
        (_measure(one.total), _measure(resample(one.confusions, draws)))
        for one in (challenger, champion)
    )
    occurs = champion.confusions.sum(axis=2) > 0  # (n, k)
    occurrences = np.append(occurs.any(axis=1).sum(), occurs.sum(axis=0))
    difference = estimate((ours - theirs)[None], (our_samples - their_samples)[None], occurrences)
    return Contest(champion.protocol, len(champion.frames), theirs, ours, difference.within(-1, 1))


def _measure(confusion: NDArray[np.int64] | Floats) -> Floats:
    """(..., k, k) counts -> (..., 1 + k): mIoU, and the IoU of each class."""
    iou = iou_by_class(confusion)
    known = ~np.isnan(iou)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, iou, 0).sum(axis=-1, keepdims=True) / known.sum(-1, keepdims=True)
    return np.concatenate([mean, iou], axis=-1)


def _gain(difference: Intervals) -> str:
    return f"{_points(difference, ALL, digits=2)} points of mIoU"


def _points(difference: Intervals, place: int, digits: int = 1) -> str:
    value, low, high = (ends[place] for ends in (difference.value, difference.low, difference.high))
    if np.isnan(low):
        return f"{points(value, digits=digits)} (no interval)"
    ends = f"{points(low, digits=digits)} to {points(high, digits=digits)}"
    return f"{points(value, digits=digits)} ({percent(LEVEL, 0)} % interval {ends})"
