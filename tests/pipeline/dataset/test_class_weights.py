"""pipeline.dataset.class_weights: the six families of loss weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import official_counts
from pipeline.dataset.class_weights import (
    ClassCounts,
    effective_number,
    enet,
    erfnet,
    weight_families,
)
from segformer.cityscapes import CLASSES

SCORED = [label.label_id for label in CLASSES]
# The whole training set as one frame, for the families that do not count frames.
OFFICIAL = ClassCounts.from_pixels(np.array([official_counts.OFFICIAL_PIXELS]), SCORED)
# Three classes, and void in the last column: two frames of 100 pixels contain the first class, one
# the second, none the third.
SMALL = ClassCounts.from_pixels(np.array([[60, 0, 0, 40], [20, 20, 0, 60]]), [0, 1, 2])


def test_the_official_counts_sum_to_all_pixels() -> None:
    """34 counts sum to the pixels of 2975 frames; those of the classes to the published number."""
    assert 34 == len(official_counts.OFFICIAL_PIXELS)
    assert 2975 * 2048 * 1024 == sum(official_counts.OFFICIAL_PIXELS)
    assert 5_523_279_889 == OFFICIAL.pixels.sum()


def test_erfnet_of_the_official_counts() -> None:
    """The formula gives the vector published with the network, to 0.005."""
    expected = [
        2.8149, 6.9850, 3.7890, 9.9428, 9.7702, 9.5111, 10.3114, 10.0265, 4.6323, 9.5608, 7.8698,
        9.5169, 10.3737, 6.6616, 10.2605, 10.2879, 10.2898, 10.4054, 10.1381,
    ]  # fmt: skip
    np.testing.assert_allclose(erfnet(OFFICIAL), expected, rtol=0, atol=0.005)


def test_enet_of_the_official_counts() -> None:
    """The same for ENet, with shares of labeled pixels, to three digits."""
    expected = [
        3.045, 12.862, 4.510, 38.157, 35.253, 31.483, 45.792, 39.694, 6.064, 32.165, 17.109, 31.563,
        47.334, 11.611, 44.600, 45.237, 45.283, 48.148, 41.925,
    ]  # fmt: skip
    np.testing.assert_allclose(enet(OFFICIAL), expected, rtol=0, atol=5.1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("erfnet", [1 / np.log(1.10 + 0.4), 1 / np.log(1.10 + 0.1), 1 / np.log(1.10)]),
        ("enet", [1 / np.log(1.02 + 0.8), 1 / np.log(1.02 + 0.2), 1 / np.log(1.02)]),
        ("inverse", [2 / 5, 8 / 5, 0]),  # 1.25 and 5, normalized to a mean of 1
        ("sqrt_inverse", [2 / 3, 4 / 3, 0]),
        ("median", [0.75, 1.5, 0]),  # f is 80 of 200 and 20 of 100, their median 0.3
        ("effective_number", [0.8, 1.2, 0]),  # beta 1/2: 1 / 1.5 and 1 / 1
    ],
)
def test_weights_computed_by_hand(name: str, expected: list[float]) -> None:
    """Each family on two classes that occur and one that never does."""
    np.testing.assert_allclose(weight_families(0.5)[name](SMALL), expected)


def test_effective_number_between_equal_and_inverse() -> None:
    """With beta 0 all weights are equal; towards 1 they approach those of 1 / frames."""
    np.testing.assert_allclose([1, 1, 0], effective_number(SMALL, beta=0.0))
    np.testing.assert_allclose([2 / 3, 4 / 3, 0], effective_number(SMALL, beta=1 - 1e-9))


@given(
    per_frame=st.lists(
        st.lists(st.integers(0, 2**40), min_size=4, max_size=4), min_size=1, max_size=4
    ).filter(lambda rows: any(any(row[:3]) for row in rows)),
    beta=st.floats(0, 1, exclude_max=True),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_every_weight_is_finite_and_not_negative(per_frame: list[list[int]], beta: float) -> None:
    """Weights are finite and at least 0, and above 0 for a class that occurs."""
    counts = ClassCounts.from_pixels(np.array(per_frame), [0, 1, 2])
    for family in weight_families(beta).values():
        weights = family(counts)
        assert np.isfinite(weights).all()
        assert (weights >= 0).all()
        assert (weights[counts.pixels > 0] > 0).all()


@pytest.mark.parametrize("name", list(weight_families(0.99)))
def test_a_rarer_class_never_weighs_less(name: str) -> None:
    """In frames of one size that all contain both, the rarer class has the larger weight."""
    counts = ClassCounts.from_pixels(np.array([[90, 10, 1], [80, 20, 1]]), [0, 1, 2])
    weights = weight_families(0.99)[name](counts)
    assert (np.diff(weights) >= 0).all()
