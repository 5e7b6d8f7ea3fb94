"""Error rates of the ablation's intervals and tests, on simulated ablations with known truth.

Most simulations have frames of different size and difficulty, variance between seeds, and noise of
frame and seed together; the true difference in mIoU follows from the model itself. Others are the
worst case of few seeds, or have classes in few frames. False alarms may exceed 5 % by at most two
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
FRAME_STD, SEED_STD, JOINT_STD = 0.06, 0.01, 0.04
"""Standard deviations of a class's accuracy: of a frame, equal in all arms; of a seed; of both."""


def sample_confusions(rng: np.random.Generator, gain: float, seeds: int, frames: int) -> np.ndarray:
    """(2, s, n, trials, k, k): baseline and challenger, whose accuracy is higher by `gain`."""
    k = len(ACCURACY)
    pixels = MEAN_PIXELS * rng.gamma(4, 1 / 4, (frames, TRIALS, k))
    shape = (2, seeds, frames, TRIALS, k)
    accuracy = (
        ACCURACY
        + np.array([0, gain]).reshape(2, 1, 1, 1, 1)
        + rng.normal(0, FRAME_STD, shape[2:])
        + rng.normal(0, SEED_STD, (2, seeds, 1, TRIALS, 1))
        + rng.normal(0, JOINT_STD, shape)
    )
    counts = np.zeros((*shape, k))
    for c in range(k):
        counts[..., c, c] = pixels[..., c] * accuracy[..., c]
        # Missed pixels are predicted as the next class. Counts may be fractional or negative.
        counts[..., c, (c + 1) % k] = pixels[..., c] * (1 - accuracy[..., c])
    return counts


def true_iou(gain: float) -> np.ndarray:
    """(k,) the IoU of infinitely many frames, on average over seeds."""
    deviations, weights = np.polynomial.hermite_e.hermegauss(9)
    accuracy = ACCURACY + gain + SEED_STD * deviations[:, None]  # (9, k)
    missed = MEAN_PIXELS * (1 - accuracy)
    iou = MEAN_PIXELS * accuracy / (MEAN_PIXELS + np.roll(missed, 1, axis=1))
    return weights @ iou / weights.sum()


@cache
def simulate(gain: float, seeds: int, frames: int) -> tuple[Intervals, np.ndarray]:
    """Estimates of the paired difference, (trials x (1 + k)) of mIoU and each class; the truth."""
    rng = np.random.default_rng([int(1000 * gain), seeds, frames])
    arms = sample_confusions(rng, gain, seeds, frames)
    draws = sample_frames(frames, RESAMPLES, seed=1)
    values = np.stack([[measure(counts.sum(axis=0)) for counts in arm] for arm in arms])
    replicates = np.stack([[measure(resample(counts, draws)) for counts in arm] for arm in arms])
    occurrences = np.full(values.shape[-1], frames)
    estimates = estimate_intervals(
        values[1] - values[0], replicates[1] - replicates[0], occurrences
    )
    by_class = true_iou(gain) - true_iou(0)
    return estimates, np.array([by_class.mean(), *by_class])


def measure(counts: np.ndarray) -> np.ndarray:
    """(..., trials, k, k) -> (..., trials * (1 + k)): mIoU and the IoU of each class."""
    iou = compute_class_iou(counts)
    quantities = np.concatenate([iou.mean(axis=-1, keepdims=True), iou], axis=-1)
    return quantities.reshape(*quantities.shape[:-2], -1)


def estimate_rate(events: np.ndarray) -> tuple[float, float]:
    """The rate of an event over the trials; its Monte Carlo error at a true rate of 5 or 95 %."""
    return float(events.mean()), float(np.sqrt(0.95 * 0.05 / events.size))


SETTINGS = [(2, 12), (3, 24), (5, 12)]
"""Seeds and frames."""


@pytest.mark.parametrize("gain", [0.0, 0.03])
@pytest.mark.parametrize(("seeds", "frames"), SETTINGS)
def test_intervals_cover_the_truth_at_the_stated_rate(gain: float, seeds: int, frames: int) -> None:
    """With and without an effect, 95 % of the intervals contain the true difference in mIoU."""
    estimates, truth = simulate(gain, seeds, frames)
    covered, error = estimate_rate(
        (estimates.low[::4] <= truth[0]) & (truth[0] <= estimates.high[::4])
    )
    assert 0.95 - 2 * error <= covered


@pytest.mark.parametrize(("seeds", "frames"), SETTINGS)
def test_false_alarms_stay_under_five_per_cent(seeds: int, frames: int) -> None:
    """Without an effect at most 5 % of the differences are significant."""
    estimates, _ = simulate(0.0, seeds, frames)
    alarms, error = estimate_rate(estimates.p[::4] < 0.05)
    assert alarms <= 0.05 + 2 * error


@pytest.mark.parametrize(("seeds", "frames"), SETTINGS)
def test_holm_keeps_false_alarms_of_a_table_under_five_per_cent(seeds: int, frames: int) -> None:
    """Without an effect at most 5 % of the corrected tables of classes have a false alarm."""
    estimates, _ = simulate(0.0, seeds, frames)
    tables = estimates.p.reshape(TRIALS, -1)[:, 1:]
    alarms, error = estimate_rate(np.array([adjust_p_values(p).min() < 0.05 for p in tables]))
    assert alarms <= 0.05 + 2 * error


CLASSES = 19


@cache
def simulate_noise(seeds: int, frames: int, seed_noise: float) -> np.ndarray:
    """(trials, 19) p-values of differences without an effect, independent for each class.

    Args:
        seeds: of each trial.
        frames: of each trial.
        seed_noise: the standard deviation between seeds, relative to that of a mean over frames.
    """
    trials = 400
    rng = np.random.default_rng([seeds, frames, int(seed_noise)])
    shape = (seeds, frames, trials * CLASSES)
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise += seed_noise / np.sqrt(frames) * rng.standard_normal((seeds, 1, trials * CLASSES))
    draws = (sample_frames(frames, 50, seed=1) / frames).astype(np.float32)
    replicates = np.stack([draws @ of_seed for of_seed in noise]).astype(np.float64)
    values = noise.mean(axis=1, dtype=np.float64)
    occurrences = np.full(trials * CLASSES, frames)
    return estimate_intervals(values, replicates, occurrences).p.reshape(trials, -1)


FEW_SEEDS = [(2, 32), (2, 200), (3, 200)]
"""Seeds and frames; those of the demo are first."""


@pytest.mark.parametrize("seed_noise", [1.0, 3.0, 30.0])
@pytest.mark.parametrize(("seeds", "frames"), FEW_SEEDS)
def test_few_seeds_raise_no_more_false_alarms(seeds: int, frames: int, seed_noise: float) -> None:
    """If seeds differ as much as frames or far more, at most 5 % of the classes are significant."""
    alarms, error = estimate_rate(simulate_noise(seeds, frames, seed_noise) < 0.05)
    assert alarms <= 0.05 + 2 * error


@pytest.mark.parametrize("seed_noise", [1.0, 3.0, 30.0])
@pytest.mark.parametrize(("seeds", "frames"), FEW_SEEDS)
def test_holm_holds_for_nineteen_independent_classes(
    seeds: int, frames: int, seed_noise: float
) -> None:
    """Of 19 independent classes without an effect none is significant in 95 % of the tables."""
    tables = simulate_noise(seeds, frames, seed_noise)
    alarms, error = estimate_rate(np.array([adjust_p_values(p).min() < 0.05 for p in tables]))
    assert alarms <= 0.05 + 2 * error


def simulate_classes_in_few_frames(seed_noise: float) -> np.ndarray:
    """(trials, 3) the least p of classes, groups, mIoU; two of four classes in 2 and 4 frames.

    `seed_noise` is the standard deviation of a class's accuracy between seeds.
    """
    trials, seeds, frames = 200, 2, 24
    rng = np.random.default_rng(int(100 * seed_noise))
    p_values = []
    for trial in range(trials):
        pixels = np.array([600, 300, 100, 50]) * rng.gamma(2, 1 / 2, (frames, 4))
        for k, num_frames in ((2, 4), (3, 2)):
            pixels[rng.permutation(frames)[num_frames:], k] = 0
        accuracy = rng.normal([0.85, 0.8, 0.6, 0.5], 0.1, (frames, 4))
        arms = {
            loss: [
                make_arm(rng, pixels, accuracy + rng.normal(0, seed_noise, 4)) for _ in range(seeds)
            ]
            for loss in ("ce", "dice")
        }
        share = np.array([0.6, 0.3, 0.08, 0.02])
        comparison = compare_losses(
            arms, seeds=range(seeds), baseline="ce", share=share, resamples=60, seed=trial
        )
        result = comparison.results["dice"]
        assert result.p_holm is not None
        assert result.p_groups is not None
        p_values.append([result.p_holm.min(), result.p_groups.min(), result.p_arm])
    return np.array(p_values, dtype=np.float64)


def make_arm(rng: np.random.Generator, pixels: np.ndarray, accuracy: np.ndarray) -> Arm:
    """An arm of about the accuracy (n, k) on (n, k) pixels; misses are predicted as class 0."""
    hit_rate = np.clip(accuracy + rng.normal(0, 0.08, accuracy.shape), 0, 1)
    frames, k = pixels.shape
    counts = np.zeros((frames, k, k))
    counts[:, np.arange(k), np.arange(k)] = pixels * hit_rate
    counts[:, 1:, 0] += (pixels * (1 - hit_rate))[:, 1:]
    counts[:, 0, 1] += (pixels * (1 - hit_rate))[:, 0]
    names = [f"frame {i}" for i in range(frames)]
    scores = Scores("made up", names, counts.round().astype(np.int64))
    validation = pd.DataFrame({"step": [1], "val_miou": [0.5]})
    return Arm("arm", scores, np.zeros((frames, 1, 3)), validation, 1)


def test_classes_in_few_frames_raise_no_more_false_alarms() -> None:
    """Two classes in 2 and 4 of 24 frames: mIoU, groups and classes err in at most 5 %."""
    for p in simulate_classes_in_few_frames(seed_noise=0.2).T:
        alarms, error = estimate_rate(p < 0.05)
        assert alarms <= 0.05 + 2 * error


def test_true_difference_is_detected() -> None:
    """With 5 seeds 4.6 points of mIoU are significant in most trials, and the mean is the truth."""
    estimates, truth = simulate(0.03, 5, 12)
    assert (estimates.p[::4] < 0.05).mean() > 0.5
    assert truth[0] == pytest.approx(estimates.value[::4].mean(), abs=0.002)
