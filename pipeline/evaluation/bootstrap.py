"""Compute intervals for scores from the bootstrap over frames and the variance between seeds.

Every seed is scored on the same frames, so frames are drawn once for all seeds and arms: two arms
are compared on the same draws. The bootstrap variance over frames and the variance between seeds
are each scaled by the squared Student t quantile for their degrees of freedom, then added.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

CONFIDENCE_LEVEL = 0.95
"""The share of intervals that should contain the true value."""

_BISECTION_STEPS = 40  # give 12 digits of a p-value


@dataclass(frozen=True)
class Intervals:
    """Estimates of q quantities; low, high and p are nan where fewer than two frames have a value.

    Attributes:
        value: (q,) the estimates, means over seeds.
        low: (q,) lower ends at CONFIDENCE_LEVEL.
        high: (q,) upper ends.
        p: (q,) two-sided p-values of the hypothesis that the quantity is 0.
    """

    value: Floats
    low: Floats
    high: Floats
    p: Floats

    def clip(self, lower: float, upper: float) -> Self:
        """Return the same estimates with the intervals clipped to the range of the quantity."""
        low, high = (np.clip(end, lower, upper) for end in (self.low, self.high))
        return replace(self, low=low, high=high)


def sample_frames(num_frames: int, resamples: int, seed: int) -> Floats:
    """Return (r, n): how often each of n frames is in each of r samples of n with replacement."""
    even = np.full(num_frames, 1 / num_frames)
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_frames, even, size=resamples).astype(np.float64)


def resample(counts: NDArray[np.int64] | Floats, draws: Floats) -> Floats:
    """(n, ...) counts per frame and (r, n) draws -> (r, ...), the counts of every sample.

    Exact, and therefore the same on every machine, for sums below 2**53 pixels.
    """
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    return (draws @ flat).reshape(len(draws), *counts.shape[1:])


def estimate_intervals(
    values: Floats, replicates: Floats, occurrences: NDArray[np.int64]
) -> Intervals:
    """Estimate quantities, with intervals, from s seeds scored on the same frames.

    Args:
        values: (s, q) values of each seed on all frames; nan where undefined.
        replicates: (s, r, q) values of each seed on each bootstrap sample; the samples are the same
            for all seeds.
        occurrences: (q,) number of frames in which the quantity is defined.

    With one seed the interval covers the choice of frames only.
    """
    value = _mean(values)
    seeds = len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The plug-in variance of a sample of n is too small by 1/n.
        plug_in = _variance(_mean(replicates), ddof=0)
        frame_variance = np.where(
            occurrences > 1, plug_in * occurrences / (occurrences - 1), np.nan
        )
    seed_variance = _variance(values, ddof=1) / seeds if seeds > 1 else np.zeros(len(value))
    variances = np.stack([frame_variance, seed_variance])
    degrees_of_freedom = np.stack(
        [np.maximum(occurrences - 1, 1), np.full(len(value), max(seeds - 1, 1))]
    )
    alpha = np.full(len(value), 1 - CONFIDENCE_LEVEL)
    half_width = _half_width(alpha, variances, degrees_of_freedom)
    p = _p_values(value, variances, degrees_of_freedom)
    return Intervals(value, value - half_width, value + half_width, p)


def _half_width(alpha: Floats, variances: Floats, degrees_of_freedom: NDArray[np.int64]) -> Floats:
    """(q,) alpha, (2, q) variances and degrees of freedom -> (q,), half widths at 1 - alpha.

    The interval misses the true value in at most a share alpha of all cases, whatever the true
    variances (S. K. Banerjee, Sankhya 22, 1960, for normal means). A single t quantile for the sum,
    as of Welch and Satterthwaite, misses it more often if one variance has 1 or 2 degrees of
    freedom.
    """
    with np.errstate(invalid="ignore"):  # the quantile of 0 is infinite
        squares = special.stdtrit(degrees_of_freedom, alpha / 2) ** 2 * variances
    return np.asarray(np.sqrt(np.where(variances == 0, 0, squares).sum(axis=0)))


def _p_values(value: Floats, variances: Floats, degrees_of_freedom: NDArray[np.int64]) -> Floats:
    """Return (q,) p-values: the alpha at which an end of the interval is 0."""
    error = np.sqrt(variances.sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # The p-value lies between those with the degrees of freedom of either variance.
        bounds = 2 * special.stdtr(degrees_of_freedom, -np.abs(value) / error)
    low, high = bounds.min(axis=0), bounds.max(axis=0)
    for _ in range(_BISECTION_STEPS):
        middle = (low + high) / 2
        reaches_zero = _half_width(middle, variances, degrees_of_freedom) >= np.abs(value)
        low, high = np.where(reaches_zero, middle, low), np.where(reaches_zero, high, middle)
    return np.asarray(np.where(error == 0, value == 0, (low + high) / 2), dtype=np.float64)


def adjust_p_values(p: Floats) -> Floats:
    """(q,) p-values -> (q,) after Holm's correction; nan is not counted as a test and stays nan."""
    adjusted = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(p[i])))
        adjusted[i] = largest
    return adjusted


def _mean(values: Floats) -> Floats:
    """(s, ...) -> (...), mean of the values that are not nan; nan if there is none."""
    is_valid = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(is_valid, values, 0).sum(axis=0) / is_valid.sum(axis=0)
    return mean


def _variance(values: Floats, ddof: int) -> Floats:
    """(s, ...) -> (...), variance of the values that are not nan; nan for at most `ddof`."""
    squares = (values - _mean(values)) ** 2
    is_valid = ~np.isnan(values)
    divisor = is_valid.sum(axis=0) - ddof
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(is_valid, squares, 0).sum(axis=0) / divisor
    return np.where(divisor > 0, variance, np.nan)
