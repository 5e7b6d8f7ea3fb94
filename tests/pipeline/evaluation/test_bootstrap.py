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


def test_every_sample_has_as_many_frames_as_the_set() -> None:
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


def interval_of_a_mean(numbers: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Low, high and p of a mean by the bootstrap; numbers are (s, n), one row per seed."""
    frames = numbers.shape[1]
    draws = sample_frames(frames, 20_000, seed)
    replicates = (numbers @ draws.T / frames)[..., None]
    values = numbers.mean(axis=1)[:, None]
    interval = estimate_intervals(values, replicates, np.array([frames]))
    assert numbers.mean() == pytest.approx(interval.value[0])
    return float(interval.low[0]), float(interval.high[0]), float(interval.p[0])


def test_one_seed_gives_students_interval_of_a_mean() -> None:
    """For a mean the bootstrap comes to Student's interval and test, which are known exactly."""
    numbers = np.random.default_rng(3).normal(0.3, 1, 20)
    known = stats.ttest_1samp(numbers, 0)
    low, high, p = interval_of_a_mean(numbers[None])
    assert known.confidence_interval(0.95).low == pytest.approx(low, abs=0.01)
    assert known.confidence_interval(0.95).high == pytest.approx(high, abs=0.01)
    assert known.pvalue == pytest.approx(p, abs=0.01)


def test_seeds_that_differ_more_than_frames_give_students_interval_over_seeds() -> None:
    """Where all frames agree, the interval is Student's for the few seeds."""
    per_seed = np.array([0.1, 0.4, 0.6])
    known = stats.ttest_1samp(per_seed, 0)
    low, high, p = interval_of_a_mean(np.repeat(per_seed[:, None], 9, axis=1))
    assert known.confidence_interval(0.95).low == pytest.approx(low)
    assert known.confidence_interval(0.95).high == pytest.approx(high)
    assert known.pvalue == pytest.approx(p)


@pytest.mark.parametrize(("seeds", "frames"), [(1, 10), (2, 10), (3, 30)])
def test_intervals_cover_and_seldom_raise_false_alarms(seeds: int, frames: int) -> None:
    """With no effect but noise of frames and seeds, at most 5 % of the intervals leave out 0."""
    rng = np.random.default_rng(5)
    trials, alarms = 400, 0
    draws = sample_frames(frames, 300, seed=2)
    for _ in range(trials):
        of_seeds = 0 if seeds == 1 else rng.normal(0, 0.5, (seeds, 1))
        numbers = rng.normal(0, 1, frames) + of_seeds + rng.normal(0, 1, (seeds, frames))
        replicates = (numbers @ draws.T / frames)[..., None]
        interval = estimate_intervals(numbers.mean(axis=1)[:, None], replicates, np.array([frames]))
        alarms += int(interval.low[0] > 0 or interval.high[0] < 0)
    # Three standard errors of 400 trials above 5 %.
    assert alarms / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_a_class_in_one_frame_has_a_value_and_no_interval() -> None:
    """One frame says nothing about other frames."""
    interval = estimate_intervals(np.array([[0.5]]), np.array([[[0.5], [np.nan]]]), np.array([1]))
    assert interval.value[0] == 0.5
    assert np.isnan([interval.low[0], interval.high[0], interval.p[0]]).all()


def test_no_difference_anywhere_is_no_discovery() -> None:
    """Two equal models differ by 0, from 0 to 0, with p of 1."""
    interval = estimate_intervals(np.zeros((2, 1)), np.zeros((2, 50, 1)), np.array([8]))
    assert (0, 0, 0, 1) == (interval.value[0], interval.low[0], interval.high[0], interval.p[0])


def test_holm_by_hand() -> None:
    """The smallest of four is multiplied by 4, the next by 3, and no value falls below the last."""
    expected = [0.04, 0.09, 0.09, 0.20]  # 4 x 0.01; 3 x 0.03; 2 x 0.04 = 0.08, so 0.09; 1 x 0.20
    np.testing.assert_allclose(adjust_p_values(np.array([0.01, 0.03, 0.04, 0.20])), expected)
    np.testing.assert_allclose(
        adjust_p_values(np.array([0.20, 0.04, 0.01, 0.03])), [0.20, 0.09, 0.04, 0.09]
    )
    np.testing.assert_allclose(adjust_p_values(np.array([0.6, 0.7])), [1, 1])


def test_holm_leaves_out_what_was_not_tested() -> None:
    """What is nan is no test: it stays nan and does not make the others dearer."""
    np.testing.assert_allclose(
        adjust_p_values(np.array([np.nan, 0.01, 0.02])), [np.nan, 0.02, 0.02]
    )
    assert adjust_p_values(np.array([])).size == 0


def test_no_interval_goes_beyond_what_can_be() -> None:
    """Cutting an interval to its range leaves the estimate, its p, and what lies within."""
    wide = Intervals(
        *(np.array(ends) for ends in ([0.1, 0.5], [-5.0, 0.4], [5.2, 0.6], [0.9, 0.0]))
    )
    cut = wide.clip(0, 1)
    assert [0.0, 0.4] == cut.low.tolist()
    assert [1.0, 0.6] == cut.high.tolist()
    assert wide.value is cut.value
    assert wide.p is cut.p


def test_p_is_the_level_whose_interval_ends_at_zero() -> None:
    """Below 5 % exactly where the interval leaves out 0, whichever of the variances is greater."""
    rng = np.random.default_rng(4)
    values = rng.normal(1.5, 1, (2, 400)) * rng.choice([0.02, 1], 400)
    replicates = values[:, None] + rng.normal(0, 0.1, (2, 60, 400))
    interval = estimate_intervals(values, replicates, np.full(400, 32))
    leaves_out = (interval.low > 0) | (interval.high < 0)
    assert 0 < leaves_out.sum() < 400
    np.testing.assert_array_equal(leaves_out, interval.p < 0.05)


def test_each_variance_is_stretched_by_its_own_quantile() -> None:
    """By hand: reach squared is t(n - 1) squared of the frames' variance, plus t(s - 1) squared."""
    draws = sample_frames(10, 20_000, seed=0)
    numbers = np.stack([np.arange(10.0), np.arange(10.0) + 3])
    replicates = (numbers @ draws.T / 10)[..., None]
    interval = estimate_intervals(numbers.mean(axis=1)[:, None], replicates, np.array([10]))
    of_frames, of_seeds = np.var(np.arange(10.0), ddof=1) / 10, np.var([0, 3], ddof=1) / 2
    reach = np.sqrt(stats.t.ppf(0.975, 9) ** 2 * of_frames + stats.t.ppf(0.975, 1) ** 2 * of_seeds)
    assert reach == pytest.approx((interval.high - interval.value)[0], rel=1e-3)
