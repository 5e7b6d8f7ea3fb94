import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.bootstrap import (
    Intervals,
    adjust_p_values,
    estimate_intervals,
    resample,
    sample_frames,
)
from tests.fakes.score_factory import make_scores


def test_samples_have_as_many_frames_as_the_set() -> None:
    """A sample draws n of n frames with replacement; on average each is drawn once."""
    draws = sample_frames(12, 4000, seed=0)
    assert (4000, 12) == draws.shape
    assert {12.0} == set(draws.sum(axis=1))
    np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.06)


def test_resampled_confusions_equal_a_slow_loop() -> None:
    """Adding up the drawn frames one by one gives the same confusions."""
    confusions = make_scores(0.7, frames=5).confusions
    draws = sample_frames(5, 7, seed=1)
    for sample, confusion in zip(draws, resample(confusions, draws), strict=True):
        expected = np.zeros((19, 19))
        for frame, times in enumerate(sample):
            for _ in range(int(times)):
                expected += confusions[frame]
        np.testing.assert_array_equal(expected, confusion)


def mean_interval(numbers: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Low, high and p of a mean by the bootstrap; numbers are (s, n), one row per seed."""
    frames = numbers.shape[1]
    draws = sample_frames(frames, 20_000, seed)
    replicates = (numbers @ draws.T / frames)[..., None]
    values = numbers.mean(axis=1)[:, None]
    interval = estimate_intervals(values, replicates, np.array([frames]))
    assert numbers.mean() == pytest.approx(interval.value[0])
    return float(interval.low[0]), float(interval.high[0]), float(interval.p[0])


def test_mean_with_one_seed_has_students_interval() -> None:
    """For a mean the bootstrap agrees with Student's interval and test."""
    numbers = np.random.default_rng(3).normal(0.3, 1, 20)
    expected = stats.ttest_1samp(numbers, 0)
    low, high, p = mean_interval(numbers[None])
    assert expected.confidence_interval(0.95).low == pytest.approx(low, abs=0.01)
    assert expected.confidence_interval(0.95).high == pytest.approx(high, abs=0.01)
    assert expected.pvalue == pytest.approx(p, abs=0.01)


def test_equal_frames_give_students_interval_over_seeds() -> None:
    """Where all frames agree, the interval is Student's for the seeds."""
    per_seed = np.array([0.1, 0.4, 0.6])
    expected = stats.ttest_1samp(per_seed, 0)
    low, high, p = mean_interval(np.repeat(per_seed[:, None], 9, axis=1))
    assert expected.confidence_interval(0.95).low == pytest.approx(low)
    assert expected.confidence_interval(0.95).high == pytest.approx(high)
    assert expected.pvalue == pytest.approx(p)


@pytest.mark.parametrize(("seeds", "frames"), [(1, 10), (2, 10), (3, 30)])
def test_intervals_exclude_zero_in_at_most_five_percent(seeds: int, frames: int) -> None:
    """Without an effect, at most 5 % of the intervals exclude 0."""
    rng = np.random.default_rng(5)
    trials, num_excluding = 400, 0
    draws = sample_frames(frames, 300, seed=2)
    for _ in range(trials):
        seed_noise = 0 if seeds == 1 else rng.normal(0, 0.5, (seeds, 1))
        numbers = rng.normal(0, 1, frames) + seed_noise + rng.normal(0, 1, (seeds, frames))
        replicates = (numbers @ draws.T / frames)[..., None]
        interval = estimate_intervals(numbers.mean(axis=1)[:, None], replicates, np.array([frames]))
        num_excluding += int(interval.low[0] > 0 or interval.high[0] < 0)
    # Three standard errors of 400 trials above 5 %.
    assert num_excluding / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_quantity_of_one_frame_has_no_interval() -> None:
    """With one frame there is a value, but neither interval nor p-value."""
    interval = estimate_intervals(np.array([[0.5]]), np.array([[[0.5], [np.nan]]]), np.array([1]))
    assert interval.value[0] == 0.5
    assert np.isnan([interval.low[0], interval.high[0], interval.p[0]]).all()


def test_equal_models_have_p_of_one() -> None:
    """Two equal models differ by 0, with the interval 0 to 0 and p of 1."""
    interval = estimate_intervals(np.zeros((2, 1)), np.zeros((2, 50, 1)), np.array([8]))
    assert (0, 0, 0, 1) == (interval.value[0], interval.low[0], interval.high[0], interval.p[0])


def test_holm_correction_by_hand() -> None:
    """The smallest of four p is multiplied by 4, the next by 3; adjusted values never decrease."""
    expected = [0.04, 0.09, 0.09, 0.20]  # 4 x 0.01; 3 x 0.03; 2 x 0.04 = 0.08, so 0.09; 1 x 0.20
    np.testing.assert_allclose(adjust_p_values(np.array([0.01, 0.03, 0.04, 0.20])), expected)
    np.testing.assert_allclose(
        adjust_p_values(np.array([0.20, 0.04, 0.01, 0.03])), [0.20, 0.09, 0.04, 0.09]
    )
    np.testing.assert_allclose(adjust_p_values(np.array([0.6, 0.7])), [1, 1])


def test_holm_correction_ignores_nan() -> None:
    """A nan stays nan and does not count as a test."""
    np.testing.assert_allclose(
        adjust_p_values(np.array([np.nan, 0.01, 0.02])), [np.nan, 0.02, 0.02]
    )
    assert adjust_p_values(np.array([])).size == 0


def test_clipped_intervals_stay_in_the_range() -> None:
    """Clipping changes only ends beyond the range, not the estimate and p."""
    wide = Intervals(
        *(np.array(ends) for ends in ([0.1, 0.5], [-5.0, 0.4], [5.2, 0.6], [0.9, 0.0]))
    )
    clipped = wide.clip(0, 1)
    assert [0.0, 0.4] == clipped.low.tolist()
    assert [1.0, 0.6] == clipped.high.tolist()
    assert wide.value is clipped.value
    assert wide.p is clipped.p


def test_p_agrees_with_the_interval() -> None:
    """P is below 5 % exactly where the interval excludes 0, whichever variance is larger."""
    rng = np.random.default_rng(4)
    values = rng.normal(1.5, 1, (2, 400)) * rng.choice([0.02, 1], 400)
    replicates = values[:, None] + rng.normal(0, 0.1, (2, 60, 400))
    interval = estimate_intervals(values, replicates, np.full(400, 32))
    excludes_zero = (interval.low > 0) | (interval.high < 0)
    assert 0 < excludes_zero.sum() < 400
    np.testing.assert_array_equal(excludes_zero, interval.p < 0.05)


def test_each_variance_is_scaled_by_its_own_quantile() -> None:
    """By hand: half width squared = t(n - 1)^2 frame variance + t(s - 1)^2 seed variance."""
    draws = sample_frames(10, 20_000, seed=0)
    numbers = np.stack([np.arange(10.0), np.arange(10.0) + 3])
    replicates = (numbers @ draws.T / 10)[..., None]
    interval = estimate_intervals(numbers.mean(axis=1)[:, None], replicates, np.array([10]))
    frame_variance, seed_variance = np.var(np.arange(10.0), ddof=1) / 10, np.var([0, 3], ddof=1) / 2
    t_frames, t_seeds = stats.t.ppf(0.975, [9, 1])
    half_width = np.sqrt(t_frames**2 * frame_variance + t_seeds**2 * seed_variance)
    assert half_width == pytest.approx((interval.high - interval.value)[0], rel=1e-3)
