"""Measurements: lifts by hand, intervals against a bootstrap written as loops."""

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.evaluation.bootstrap import sample_frames
from pipeline.explain.portraits.measurements import (
    HeadMeasurements,
    HeadName,
    HeadPortraits,
    estimate_lifts,
    uniform_distance,
)
from segformer.cityscapes import CLASS_NAMES, IGNORE
from segformer.explain.attention_maps import AttentionRecord
from segformer.explain.block_attention import BlockAttention
from tests.pipeline.explain.portraits.records import make_record

ROAD, SKY = CLASS_NAMES.index("road"), CLASS_NAMES.index("sky")
FOCUS = [0.7, 0.1, 0.1, 0.1]
RESAMPLES = 300


def label_keys(*train_ids: int) -> torch.Tensor:
    """(4, 4) labels of a picture with a class in each of its four keys."""
    return torch.tensor(train_ids).view(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1)


def measure(*frames: tuple[list[list[float]], torch.Tensor]) -> HeadPortraits:
    """Estimate the portraits of heads with these attention weights, a list per head."""
    measurements = HeadMeasurements()
    for weights, labels in frames:
        measurements.add(make_record(weights), labels)
    return measurements.estimate_portraits(resamples=RESAMPLES, seed=0)


def random_frames(number: int) -> list[tuple[list[list[float]], torch.Tensor]]:
    """Frames with two heads, random weights and labels."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.dirichlet(np.ones(4), size=2).tolist(),
            torch.tensor(rng.choice([ROAD, SKY, IGNORE], (4, 4), p=[0.5, 0.4, 0.1])),
        )
        for _ in range(number)
    ]


def test_lift_by_hand() -> None:
    """70 % of the attention on sky, which has one of four keys: lift 2.8; road: 0.3 / 0.75."""
    portraits = measure(
        ([FOCUS], label_keys(SKY, ROAD, ROAD, ROAD)),
        ([FOCUS[::-1]], label_keys(ROAD, ROAD, ROAD, SKY)),
    )
    assert [HeadName(0, 0, 0)] == portraits.heads
    np.testing.assert_allclose(portraits.lift.value[0, [SKY, ROAD]], [2.8, 0.4], rtol=1e-5)
    np.testing.assert_allclose(portraits.key_share[[SKY, ROAD]], [0.25, 0.75])


def test_lift_is_a_ratio_of_means() -> None:
    """Attention 0.7 on a key of sky, then 0.1 + 0.1 on two: (0.7 + 0.2) / (0.25 + 0.5)."""
    portraits = measure(
        ([FOCUS], label_keys(SKY, ROAD, ROAD, ROAD)),
        ([FOCUS], label_keys(ROAD, ROAD, SKY, SKY)),
    )
    assert portraits.lift.value[0, SKY] == pytest.approx(0.9 / 0.75, rel=1e-5)


def test_attention_that_follows_the_class_has_a_small_lift_on_other_labels() -> None:
    """Attention on the sky wherever it is: on the labels of the other frame, 0.1 / 0.25."""
    portraits = measure(
        ([FOCUS], label_keys(SKY, ROAD, ROAD, ROAD)),
        ([FOCUS[::-1]], label_keys(ROAD, ROAD, ROAD, SKY)),
    )
    assert portraits.position_lift[0, SKY] == pytest.approx(0.4, rel=1e-5)


def test_attention_on_a_place_keeps_its_lift_on_other_labels() -> None:
    """Attention on the upper left, where the sky is in both frames: both lifts are 2.8."""
    portraits = measure(*[([FOCUS], label_keys(SKY, ROAD, ROAD, ROAD))] * 2)
    assert portraits.lift.value[0, SKY] == pytest.approx(2.8, rel=1e-5)
    assert portraits.position_lift[0, SKY] == pytest.approx(2.8, rel=1e-5)


def test_lift_on_other_labels_equals_a_double_loop() -> None:
    """Each frame's attention meets the labels of each other frame once."""
    frames = random_frames(5)
    attended, key_share = np.zeros((2, 2)), np.zeros(2)
    for i, (weights, _) in enumerate(frames):
        for j, (_, labels) in enumerate(frames):
            shares = np.array(
                [
                    [float((labels[y : y + 2, x : x + 2] == k).float().mean()) for k in (ROAD, SKY)]
                    for y in (0, 2)
                    for x in (0, 2)
                ]
            )
            if i != j:
                attended += np.array(weights) @ shares
                key_share += shares.mean(axis=0)
    expected = (attended / attended.sum(1, keepdims=True)) / (key_share / key_share.sum())
    portraits = measure(*frames)
    np.testing.assert_allclose(portraits.position_lift[:, [ROAD, SKY]], expected, rtol=1e-5)


def test_intervals_equal_a_bootstrap_in_loops() -> None:
    """The interval of a lift, from the variance of its logarithm over drawn frames."""
    frames = random_frames(8)
    portraits = measure(*frames)
    singles = [measure(frame) for frame in frames]
    shares = np.array([single.key_share[SKY] for single in singles])
    attended = np.array([single.lift.value[1, SKY] for single in singles]) * shares
    logs = []
    for counts in sample_frames(8, RESAMPLES, 0).astype(int):
        drawn = np.repeat(np.arange(8), counts)
        logs.append(np.log(attended[drawn].mean() / shares[drawn].mean()))
    effective = int(shares.sum() ** 2 / (shares**2).sum())  # of 8 frames, by their shares of sky
    assert 2 < effective < 8
    variance = np.var(logs) * effective / (effective - 1)
    half_width = stats.t.ppf(0.975, effective - 1) * np.sqrt(variance)
    value = attended.mean() / shares.mean()
    actual = [
        ends[1, SKY] for ends in (portraits.lift.value, portraits.lift.low, portraits.lift.high)
    ]
    expected = value * np.exp([0, -half_width, half_width])
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_mean_distance_and_its_interval() -> None:
    """The distance of a head is the mean over frames; its interval has the width of a t test."""
    frames = random_frames(8)
    distances = np.array([measure(frame).distance.value[0] for frame in frames])
    portraits = measure(*frames)
    assert portraits.distance.value[0] == pytest.approx(distances.mean(), rel=1e-5)
    half_width = stats.t.ppf(0.975, 7) * distances.std(ddof=1) / np.sqrt(8)
    # 300 bootstrap samples estimate the variance to about 10 %.
    assert portraits.distance.high[0] == pytest.approx(distances.mean() + half_width, rel=0.02)


def test_significance_is_corrected_for_all_pairs() -> None:
    """Holm: the k-th smallest of q p-values counts times q - k, and at least as its predecessor."""
    portraits = measure(*random_frames(8))
    p = portraits.lift.p[:, [ROAD, SKY]].ravel()
    order = np.argsort(p)
    expected = np.empty(4)
    expected[order] = np.minimum(np.maximum.accumulate(p[order] * [4, 3, 2, 1]), 1)
    np.testing.assert_allclose(portraits.p_holm[:, [ROAD, SKY]].ravel(), expected)
    assert np.isnan(portraits.p_holm[:, SKY + 1]).all()


def test_rare_classes_are_not_found_by_chance() -> None:
    """Of 40 tables in which every lift is 1, at most 4 have a significant one.

    Each class is in 40 % of the frames, with areas of very different size. With the number of
    these frames as degrees of freedom, more than half of the tables have one.
    """
    rng = np.random.default_rng(0)
    draws = sample_frames(32, RESAMPLES, 0)
    false_tables = 0
    for _ in range(40):
        is_present = rng.random((32, 1, 10)) < 0.4
        key_share = np.repeat(is_present * rng.lognormal(0, 1.2, (32, 1, 10)), 20, axis=1)
        attended = key_share * rng.lognormal(-(0.7**2) / 2, 0.7, key_share.shape)  # mean 1
        false_tables += bool((estimate_lifts(attended, key_share, draws)[1] < 0.05).any())
    assert false_tables <= 4


def test_class_in_one_frame_has_no_interval() -> None:
    """A class in one frame has a lift, but no interval and no significance."""
    sky, road = label_keys(SKY, ROAD, ROAD, ROAD), label_keys(ROAD, ROAD, ROAD, ROAD)
    portraits = measure(([FOCUS], sky), ([FOCUS], road), ([FOCUS], road))
    assert portraits.lift.value[0, SKY] == pytest.approx(2.8, rel=1e-5)
    assert np.isnan(portraits.lift.low[0, SKY])
    assert not portraits.is_significant[0, SKY]
    assert 1 == portraits.num_class_frames[0, SKY]


def test_frames_of_two_sizes_have_no_lift_on_other_labels() -> None:
    """Keys of pictures of two sizes do not correspond; the lift itself is measured."""
    measurements = HeadMeasurements()
    measurements.add(make_record([FOCUS]), label_keys(SKY, ROAD, ROAD, ROAD))
    wide = BlockAttention(torch.zeros(1, 8, 1), torch.zeros(1, 2, 1), (2, 4), (1, 2), 2, 4)
    record = AttentionRecord((1,), (4, 8), None, ((wide,),))
    measurements.add(record, torch.full((4, 8), SKY))
    portraits = measurements.estimate_portraits(resamples=RESAMPLES, seed=0)
    assert np.isnan(portraits.position_lift).all()
    assert portraits.lift.value[0, SKY] == pytest.approx((0.7 + 1) / (0.25 + 1), rel=1e-5)


def test_without_frames_there_are_no_portraits() -> None:
    """Portraits of no frame are an error."""
    with pytest.raises(ValueError, match="no frame was measured"):
        HeadMeasurements().estimate_portraits(resamples=1, seed=0)


def test_distance_of_uniform_attention() -> None:
    """Two random points of the unit square are (2 + sqrt(2) + 5 asinh(1)) / 15 apart."""
    expected = (2 + np.sqrt(2) + 5 * np.arcsinh(1)) / 15
    assert uniform_distance((64, 64)) == pytest.approx(expected, rel=1e-4)
