"""Does the ablation's procedure keep its promises? Simulated ablations whose truth is known.

Every simulated ablation has frames of unlike size and difficulty, seeds that are lucky or not, and
noise of frame and seed together. The true difference in mIoU follows from the model itself.
"""

from functools import cache

import numpy as np
import pytest

from pipeline.bootstrap import Intervals, draw_frames, estimate, holm, resample
from pipeline.scores import iou_by_class

TRIALS = 1000
RESAMPLES = 150
MEAN_PIXELS = np.array([400.0, 100.0, 20.0])
ACCURACY = np.array([0.9, 0.75, 0.6])
OF_FRAME, OF_SEED, OF_BOTH = 0.06, 0.01, 0.04
"""Standard deviations of a class's accuracy: of a frame, alike for all arms; of a seed; of both."""


def confusions(rng: np.random.Generator, gain: float, seeds: int, frames: int) -> np.ndarray:
    """(2, s, n, trials, k, k): baseline and challenger, which gets `gain` more of each class."""
    k = len(ACCURACY)
    pixels = MEAN_PIXELS * rng.gamma(4, 1 / 4, (frames, TRIALS, k))
    shape = (2, seeds, frames, TRIALS, k)
    right = (
        ACCURACY
        + np.array([0, gain]).reshape(2, 1, 1, 1, 1)
        + rng.normal(0, OF_FRAME, shape[2:])
        + rng.normal(0, OF_SEED, (2, seeds, 1, TRIALS, 1))
        + rng.normal(0, OF_BOTH, shape)
    )
    counts = np.zeros((*shape, k))
    for c in range(k):
        counts[..., c, c] = pixels[..., c] * right[..., c]
        # What is missed is taken for the next class. Counts need be neither whole nor positive.
        counts[..., c, (c + 1) % k] = pixels[..., c] * (1 - right[..., c])
    return counts


def true_iou(gain: float) -> np.ndarray:
    """(k,) of endlessly many frames, on average over seeds."""
    luck, weights = np.polynomial.hermite_e.hermegauss(9)
    right = ACCURACY + gain + OF_SEED * luck[:, None]  # (9, k)
    missed = MEAN_PIXELS * (1 - right)
    iou = MEAN_PIXELS * right / (MEAN_PIXELS + np.roll(missed, 1, axis=1))
    return weights @ iou / weights.sum()


@cache
def simulated(gain: float, seeds: int, frames: int) -> tuple[Intervals, np.ndarray]:
    """Estimates of the paired difference, (trials x (1 + k)) of mIoU and each class; the truth."""
    rng = np.random.default_rng([int(1000 * gain), seeds, frames])
    counts = confusions(rng, gain, seeds, frames)
    draws = draw_frames(frames, RESAMPLES, seed=1)
    values = np.stack([[measure(one.sum(axis=0)) for one in arm] for arm in counts])
    replicates = np.stack([[measure(resample(one, draws)) for one in arm] for arm in counts])
    occurrences = np.full(values.shape[-1], frames)
    found = estimate(values[1] - values[0], replicates[1] - replicates[0], occurrences)
    by_class = true_iou(gain) - true_iou(0)
    return found, np.array([by_class.mean(), *by_class])


def measure(counts: np.ndarray) -> np.ndarray:
    """(..., trials, k, k) -> (..., trials * (1 + k))."""
    iou = iou_by_class(counts)
    both = np.concatenate([iou.mean(axis=-1, keepdims=True), iou], axis=-1)
    return both.reshape(*both.shape[:-2], -1)


def share(claims: np.ndarray) -> tuple[float, float]:
    """How many of the trials' claims hold, and its Monte Carlo error if 95 % should."""
    return float(claims.mean()), float(np.sqrt(0.95 * 0.05 / claims.size))


SETTINGS = [(2, 12), (3, 24), (5, 12)]
"""Seeds and frames."""


@pytest.mark.parametrize("gain", [0.0, 0.03])
@pytest.mark.parametrize(("seeds", "frames"), SETTINGS)
def test_intervals_cover_the_truth_at_the_stated_rate(gain: float, seeds: int, frames: int) -> None:
    """With and without an effect, 95 % of the intervals hold the true difference in mIoU.

    1000 trials: a Monte Carlo error of 0.7 points; three of them are allowed below 95 %.
    """
    found, truth = simulated(gain, seeds, frames)
    covered, error = share((found.low[::4] <= truth[0]) & (truth[0] <= found.high[::4]))
    assert 0.95 - 3 * error <= covered


@pytest.mark.parametrize(("seeds", "frames"), SETTINGS)
def test_false_alarms_stay_under_five_per_cent(seeds: int, frames: int) -> None:
    """Without an effect at most 5 % of the comparisons, and three Monte Carlo errors, find one."""
    found, _ = simulated(0.0, seeds, frames)
    alarms, error = share(found.p[::4] < 0.05)
    assert alarms <= 0.05 + 3 * error


@pytest.mark.parametrize(("seeds", "frames"), SETTINGS)
def test_holm_keeps_false_alarms_of_a_whole_table_under_five_per_cent(
    seeds: int, frames: int
) -> None:
    """Without an effect at most 5 % of the tables of classes, corrected, hold one false alarm."""
    found, _ = simulated(0.0, seeds, frames)
    tables = found.p.reshape(TRIALS, -1)[:, 1:]
    alarms, error = share(np.array([holm(p).min() < 0.05 for p in tables]))
    assert alarms <= 0.05 + 3 * error


def test_what_is_there_is_found() -> None:
    """3 points of accuracy, 4.6 of mIoU, are found more often than not, and at their true size."""
    found, truth = simulated(0.03, 5, 12)
    assert (found.p[::4] < 0.05).mean() > 0.5
    assert truth[0] == pytest.approx(found.value[::4].mean(), abs=0.002)
