"""The verdict of an ablation in one sentence, computed from the intervals."""

from typing import Literal

import numpy as np

from pipeline.ablation.comparison import Comparison, LossResult, Quantity
from pipeline.evaluation.bootstrap import CONFIDENCE_LEVEL
from pipeline.formatting import format_count, format_points

SIGNIFICANCE_LEVEL = 1 - CONFIDENCE_LEVEL
"""A difference with a lower p-value is significant."""

Outcome = Literal["better", "worse", "inconclusive"]


def format_verdict(comparison: Comparison) -> str:
    """State which loss wins, by how much and at which budget, or that it is inconclusive."""
    setup = (
        f"after {comparison.steps} steps, on {format_count(comparison.num_frames, 'frame')} and"
        f" {format_count(len(comparison.seeds), 'seed')}"
    )
    if not comparison.challengers:
        return f"Only {comparison.baseline} was trained, so there is nothing to compare ({setup})."
    clauses = [_format_clause(comparison, loss) for loss in comparison.challengers]
    sentence = f"{setup[0].upper()}{setup[1:]}, {'; '.join(clauses)}."
    if len(comparison.seeds) == 1:
        sentence += (
            " With one seed the interval covers the choice of frames, but not the variance between"
            " seeds."
        )
    return sentence


def classify_difference(result: LossResult) -> Outcome:
    """Return whether a loss has significantly better or worse mIoU than the baseline."""
    assert result.difference is not None
    if result.p_arm is None or not result.p_arm < SIGNIFICANCE_LEVEL:
        return "inconclusive"
    return "better" if result.difference.value[Quantity.MIOU] > 0 else "worse"


def _format_clause(comparison: Comparison, loss: str) -> str:
    result, baseline = comparison.results[loss], comparison.baseline
    assert result.difference is not None
    value, low, high = (
        float(end[Quantity.MIOU])
        for end in (result.difference.value, result.difference.low, result.difference.high)
    )
    inconclusive = f"the comparison of {loss} with {baseline} is inconclusive"
    if np.isnan(low):
        return f"{inconclusive}: one frame gives no interval"
    ends = f"{format_points(low, digits=2)} to {format_points(high, digits=2)}"
    level = f"{100 * CONFIDENCE_LEVEL:.0f} %"
    outcome = classify_difference(result)
    if outcome == "inconclusive":
        clause = (
            f"{inconclusive}: the difference is {format_points(value, digits=2)} points of mIoU,"
            f" and its {level} interval ({ends}) "
        )
        if low > 0 or high < 0:
            return (
                f"{clause}excludes 0, but not after Holm's correction for"
                f" {len(comparison.challengers)} comparisons"
            )
        return f"{clause}contains 0"
    verb = "beats" if outcome == "better" else "loses to"
    size = format_points(abs(value), sign=False, digits=2)
    return f"{loss} {verb} {baseline} by {size} points of mIoU ({level} interval {ends})"
