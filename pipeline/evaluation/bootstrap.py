"""Intervals for scores of confusions: frames by the bootstrap, seeds by their spread.

Every seed is scored on the same frames, so frames are drawn once for all seeds and arms: two arms
are compared on the very same draws. The bootstrap's variance over frames and the variance between
seeds are each stretched by the Student t quantile of what it was estimated from, then added.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE_LEVEL = 0.95
"""How often an interval is to cover the truth."""

_BISECTION_STEPS = 40  # of the bracket around a p-value: 12 digits of it


@dataclass(frozen=True)
class Intervals:
    """Estimates of q quantities; low, high and p are nan where fewer than two frames speak.

    Attributes:
        value: (q,) the estimates, means over seeds.
        low: (q,) lower ends at LEVEL.
        high: (q,) upper ends.
        p: (q,) how probable a value this far from 0 is if it is 0, two-sided.
    """

    value: Floats
    low: Floats
    high: Floats
    p: Floats

    def clip(self, lower: float, upper: float) -> Self:
        """The same, with no interval beyond what the quantity can be."""
        low, high = (np.clip(end, lower, upper) for end in (self.low, self.high))
        return replace(self, low=low, high=high)


def sample_frames(num_frames: int, resamples: int, seed: int) -> Floats:
    """(r, n): how often each of n frames is drawn in each of r samples of n with replacement."""
    even = np.full(num_frames, 1 / num_frames)
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_frames, even, size=resamples).astype(np.float64)


def resample(counts: NDArray[np.int64] | Floats, draws: Floats) -> Floats:
    """(n, ...) counts per frame and (r, n) draws -> (r, ...), the counts of every sample.

    Exact, and so the same on every machine, while a sum stays below 2**53 pixels.
    """
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    return (draws @ flat).reshape(len(draws), *counts.shape[1:])


def estimate_intervals(
    values: Floats, replicates: Floats, occurrences: NDArray[np.int64]
) -> Intervals:
    """Estimate quantities, with intervals, from s seeds scored on the same frames.

    Args:
        values: (s, q) of each seed on all frames; nan where undefined.
        replicates: (s, r, q) of each seed on each bootstrap sample of frames, the same samples.
        occurrences: (q,) in how many frames there is something to measure.

    With one seed the interval covers the choice of frames and nothing else.
    """
    value = _mean(values)
    seeds = len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A sample of n has 1/n too little variance, as every plug-in estimate does.
        plug_in = _variance(_mean(replicates), ddof=0)
        of_frames = np.where(occurrences > 1, plug_in * occurrences / (occurrences - 1), np.nan)
    of_seeds = _variance(values, ddof=1) / seeds if seeds > 1 else np.zeros(len(value))
    variances = np.stack([of_frames, of_seeds])
    freedoms = np.stack([np.maximum(occurrences - 1, 1), np.full(len(value), max(seeds - 1, 1))])
    reach = _half_width(np.full(len(value), 1 - CONFIDENCE_LEVEL), variances, freedoms)
    return Intervals(value, value - reach, value + reach, _p_values(value, variances, freedoms))


def _half_width(alpha: Floats, variances: Floats, degrees_of_freedom: NDArray[np.int64]) -> Floats:
    """(q,) how far an interval at 1 - alpha goes, given (2, q) variances and degrees of freedom.

    It is too short in at most a share of alpha of all cases, whatever the true variances (S. K.
    Banerjee, Sankhya 22, 1960, for normal means); one t quantile for the sum, as Welch and
    Satterthwaite take, is too short more often where one of them has 1 or 2 degrees of freedom.
    """
    # Every command loads this module for the parameters of its stages, and SciPy takes a while.
    from scipy import special

    with np.errstate(invalid="ignore"):  # the quantile of 0 is endless
        squares = special.stdtrit(degrees_of_freedom, alpha / 2) ** 2 * variances
    return np.asarray(np.sqrt(np.where(variances == 0, 0, squares).sum(axis=0)))


def _p_values(value: Floats, variances: Floats, degrees_of_freedom: NDArray[np.int64]) -> Floats:
    """(q,) the alpha whose interval just reaches 0: the p-value that belongs to the intervals."""
    from scipy import special

    error = np.sqrt(variances.sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # With the degrees of freedom of one variance for both it is too small, or too great.
        between = 2 * special.stdtr(degrees_of_freedom, -np.abs(value) / error)
    low, high = between.min(axis=0), between.max(axis=0)
    for _ in range(_BISECTION_STEPS):
        middle = (low + high) / 2
        reaches = _half_width(middle, variances, degrees_of_freedom) >= np.abs(value)
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle)
    return np.asarray(np.where(error == 0, value == 0, (low + high) / 2), dtype=np.float64)


def adjust_p_values(p: Floats) -> Floats:
    """(q,) p-values -> (q,), corrected as Holm does; nan is no test and stays nan."""
    corrected = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(p[i])))
        corrected[i] = largest
    return corrected


def _mean(values: Floats) -> Floats:
    """(s, ...) -> (...), over what is not nan; nan where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)
    return mean


def _variance(values: Floats, ddof: int) -> Floats:
    """(s, ...) -> (...), over what is not nan; nan where no more than `ddof` values are."""
    squares = (values - _mean(values)) ** 2
    known = ~np.isnan(values)
    spare = known.sum(axis=0) - ddof
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(known, squares, 0).sum(axis=0) / spare
    return np.where(spare > 0, variance, np.nan)
