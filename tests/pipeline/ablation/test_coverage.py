"""Does the ablation's procedure keep its promises? Simulated ablations whose truth is known.

Most have frames of unlike size and difficulty, seeds that are lucky or not, and noise of frame and
seed together; the true difference in mIoU follows from the model itself. Others are the worst that
few seeds can do, or have classes in few frames. False alarms may exceed 5 % by no more than two
Monte Carlo errors, which chance alone would do once in 40 settings.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from pipeline.ablation.arms import Arm
from pipeline.ablation.comparison import compare_losses
from pipeline.evaluation.bootstrap import (
    Intervals,
    adjust_p_values,
    estimate_intervals,
    resample,
    sample_frames,
)
from pipeline.evaluation.scores import Scores, compute_class_iou

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
    draws = sample_frames(frames, RESAMPLES, seed=1)
    values = np.stack([[measure(one.sum(axis=0)) for one in arm] for arm in counts])
    replicates = np.stack([[measure(resample(one, draws)) for one in arm] for arm in counts])
    occurrences = np.full(values.shape[-1], frames)
    found = estimate_intervals(values[1] - values[0], replicates[1] - replicates[0], occurrences)
    by_class = true_iou(gain) - true_iou(0)
    return found, np.array([by_class.mean(), *by_class])


def measure(counts: np.ndarray) -> np.ndarray:
    """(..., trials, k, k) -> (..., trials * (1 + k))."""
    iou = compute_class_iou(counts)
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
    """With and without an effect, 95 % of the intervals hold the true difference in mIoU."""
    found, truth = simulated(gain, seeds, frames)
    covered, error = share((found.low[::4] <= truth[0]) & (truth[0] <= found.high[::4]))
    assert 0.95 - 2 * error <= covered


@pytest.mark.parametrize(("seeds", "frames"), SETTINGS)
def test_false_alarms_stay_under_five_per_cent(seeds: int, frames: int) -> None:
    """Without an effect at most 5 % of the comparisons find one."""
    found, _ = simulated(0.0, seeds, frames)
    alarms, error = share(found.p[::4] < 0.05)
    assert alarms <= 0.05 + 2 * error


@pytest.mark.parametrize(("seeds", "frames"), SETTINGS)
def test_holm_keeps_false_alarms_of_a_whole_table_under_five_per_cent(
    seeds: int, frames: int
) -> None:
    """Without an effect at most 5 % of the tables of classes, corrected, hold one false alarm."""
    found, _ = simulated(0.0, seeds, frames)
    tables = found.p.reshape(TRIALS, -1)[:, 1:]
    alarms, error = share(np.array([adjust_p_values(p).min() < 0.05 for p in tables]))
    assert alarms <= 0.05 + 2 * error


CLASSES = 19


@cache
def lucky(seeds: int, frames: int, luck: float) -> np.ndarray:
    """(trials, 19) p-values of differences that are nothing but noise, each class for itself.

    Args:
        seeds: of each trial.
        frames: of each trial.
        luck: the standard deviation between seeds, over that of a mean over frames.
    """
    trials = 400
    rng = np.random.default_rng([seeds, frames, int(luck)])
    shape = (seeds, frames, trials * CLASSES)
    numbers = rng.standard_normal(shape, dtype=np.float32)
    numbers += luck / np.sqrt(frames) * rng.standard_normal((seeds, 1, trials * CLASSES))
    draws = (sample_frames(frames, 50, seed=1) / frames).astype(np.float32)
    replicates = np.stack([draws @ one for one in numbers]).astype(np.float64)
    values = numbers.mean(axis=1, dtype=np.float64)
    return estimate_intervals(values, replicates, np.full(trials * CLASSES, frames)).p.reshape(
        trials, -1
    )


FEW_SEEDS = [(2, 32), (2, 200), (3, 200)]
"""Seeds and frames; those of the demo come first."""


@pytest.mark.parametrize("luck", [1.0, 3.0, 30.0])
@pytest.mark.parametrize(("seeds", "frames"), FEW_SEEDS)
def test_luck_of_few_seeds_raises_no_more_false_alarms(
    seeds: int, frames: int, luck: float
) -> None:
    """Where seeds differ as much as frames or far more, at most 5 % of the classes seem to gain."""
    alarms, error = share(lucky(seeds, frames, luck) < 0.05)
    assert alarms <= 0.05 + 2 * error


@pytest.mark.parametrize("luck", [1.0, 3.0, 30.0])
@pytest.mark.parametrize(("seeds", "frames"), FEW_SEEDS)
def test_nineteen_lucky_classes_make_no_false_table(seeds: int, frames: int, luck: float) -> None:
    """Of 19 independent classes none is said to gain, after Holm, in 95 % of the tables."""
    alarms, error = share(
        np.array([adjust_p_values(p).min() < 0.05 for p in lucky(seeds, frames, luck)])
    )
    assert alarms <= 0.05 + 2 * error


def with_classes_in_few_frames(luck: float) -> np.ndarray:
    """(trials, 3) the least p of classes, groups, mIoU; two of four classes in 2 and 4 frames."""
    trials, seeds, frames = 200, 2, 24
    rng = np.random.default_rng(int(100 * luck))
    found = []
    for trial in range(trials):
        pixels = np.array([600, 300, 100, 50]) * rng.gamma(2, 1 / 2, (frames, 4))
        for k, held in ((2, 4), (3, 2)):
            pixels[rng.permutation(frames)[held:], k] = 0
        frame = rng.normal([0.85, 0.8, 0.6, 0.5], 0.1, (frames, 4))
        arms = {
            loss: [make_arm(rng, pixels, frame + rng.normal(0, luck, 4)) for _ in range(seeds)]
            for loss in ("ce", "dice")
        }
        share = np.array([0.6, 0.3, 0.08, 0.02])
        compared = compare_losses(
            arms, seeds=range(seeds), baseline="ce", share=share, resamples=60, seed=trial
        )
        result = compared.results["dice"]
        assert result.p_holm is not None
        assert result.p_groups is not None
        found.append([result.p_holm.min(), result.p_groups.min(), result.p_arm])
    return np.array(found, dtype=np.float64)


def make_arm(rng: np.random.Generator, pixels: np.ndarray, accuracy: np.ndarray) -> Arm:
    """An arm with about this accuracy, (n, k), on (n, k) pixels; misses are taken for class 0."""
    right = np.clip(accuracy + rng.normal(0, 0.08, accuracy.shape), 0, 1)
    frames, k = pixels.shape
    counts = np.zeros((frames, k, k))
    counts[:, np.arange(k), np.arange(k)] = pixels * right
    counts[:, 1:, 0] += (pixels * (1 - right))[:, 1:]
    counts[:, 0, 1] += (pixels * (1 - right))[:, 0]
    names = [f"frame {i}" for i in range(frames)]
    scores = Scores("made up", names, counts.round().astype(np.int64))
    validation = pd.DataFrame({"step": [1], "val_miou": [0.5]})
    return Arm("arm", scores, np.zeros((frames, 1, 3)), validation, 1)


def test_classes_in_few_frames_raise_no_more_false_alarms() -> None:
    """Two classes in 2 and 4 of 24 frames: neither mIoU, groups nor classes err in over 5 %."""
    for p in with_classes_in_few_frames(luck=0.2).T:
        alarms, error = share(p < 0.05)
        assert alarms <= 0.05 + 2 * error


def test_what_is_there_is_found() -> None:
    """With 5 seeds 4.6 points of mIoU are found more often than not, and at their true size."""
    found, truth = simulated(0.03, 5, 12)
    assert (found.p[::4] < 0.05).mean() > 0.5
    assert truth[0] == pytest.approx(found.value[::4].mean(), abs=0.002)
