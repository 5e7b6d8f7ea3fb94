"""The one sentence at the end of an ablation, computed from the intervals."""

import numpy as np

from pipeline.ablation.comparison import ALL, Comparison, LossResult
from pipeline.evaluation.bootstrap import CONFIDENCE_LEVEL
from pipeline.formatting import format_count, format_points

SIGNIFICANCE_LEVEL = 1 - CONFIDENCE_LEVEL
"""A difference whose p-value is lower is not put down to chance."""


def format_verdict(comparison: Comparison) -> str:
    """Say which loss wins, by how much, at which budget, or that the data cannot tell."""
    basis = (
        f"after {comparison.steps} steps, on {format_count(comparison.num_frames, 'frame')} and"
        f" {format_count(len(comparison.seeds), 'seed')}"
    )
    if not comparison.challengers:
        return f"Only {comparison.baseline} was trained, so there is nothing to compare ({basis})."
    clauses = [_format_clause(comparison, loss) for loss in comparison.challengers]
    sentence = f"{basis[0].upper()}{basis[1:]}, {'; '.join(clauses)}."
    if len(comparison.seeds) == 1:
        sentence += (
            " With one seed the interval covers the choice of frames, not the luck of a training:"
            " noise between seeds is not covered."
        )
    return sentence


def classify_difference(result: LossResult) -> str:
    """`better`, `worse` or `open`: whether a loss differs from the baseline beyond chance."""
    assert result.difference is not None
    if result.p_arm is None or not result.p_arm < SIGNIFICANCE_LEVEL:
        return "open"
    return "better" if result.difference.value[ALL] > 0 else "worse"


def _format_clause(comparison: Comparison, loss: str) -> str:
    result, baseline = comparison.results[loss], comparison.baseline
    assert result.difference is not None
    value, low, high = (
        float(end[ALL])
        for end in (result.difference.value, result.difference.low, result.difference.high)
    )
    if np.isnan(low):
        return f"the data cannot tell {loss} from {baseline}: one frame gives no interval"
    ends = f"{format_points(low, digits=2)} to {format_points(high, digits=2)}"
    interval = f"{100 * CONFIDENCE_LEVEL:.0f} % interval {ends}"
    kind = classify_difference(result)
    if kind == "open":
        clause = (
            f"the data cannot tell whether {loss} is better or worse than {baseline}:"
            f" the difference is {format_points(value, digits=2)} points of mIoU ({interval})"
        )
        if low > 0 or high < 0:
            clause += f", which {len(comparison.challengers)} comparisons can bring about by chance"
        return clause
    verb = "beats" if kind == "better" else "loses to"
    size = format_points(abs(value), sign=False, digits=2)
    return f"{loss} {verb} {baseline} by {size} points of mIoU ({interval})"
