from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from segformer.data.sampling import BatchSampler, shuffled, weighted

ORDERS = [partial(shuffled, 9), partial(weighted, np.arange(1.0, 10.0))]


def take_indices(order: BatchSampler, updates: int) -> list[int]:
    """The indices of the first batches, concatenated."""
    return np.concatenate([order(i) for i in range(updates)]).tolist()


def test_epoch_has_every_frame_once_in_random_order() -> None:
    """No frame occurs twice in an epoch; the next epoch has another order."""
    indices = take_indices(shuffled(12, 4, seed=0), 6)
    assert list(range(12)) == sorted(indices[:12]) == sorted(indices[12:])
    assert indices[:12] != indices[12:]
    assert indices[:12] != list(range(12))


def test_no_frame_is_dropped_between_epochs() -> None:
    """With 7 frames and batches of 3, seven batches are three whole epochs."""
    indices = take_indices(shuffled(7, 3, seed=0), 7)
    assert [list(range(7))] * 3 == [sorted(indices[i : i + 7]) for i in (0, 7, 14)]


@pytest.mark.parametrize("num_frames", [1, 3, 5])
def test_batch_may_be_larger_than_the_set(num_frames: int) -> None:
    """A small set gives full batches, in which every frame occurs."""
    batch = shuffled(num_frames, 8, seed=0)(0).tolist()
    assert 8 == len(batch)
    assert set(range(num_frames)) == set(batch)


@pytest.mark.parametrize("make", ORDERS)
def test_sampler_has_no_state(make: Callable[[int, int], BatchSampler]) -> None:
    """A batch does not depend on the batches requested before."""
    expected = take_indices(make(4, 5), 9)
    order = make(4, 5)
    assert expected[32:] == order(8).tolist()
    assert expected[8:12] == order(2).tolist()


@pytest.mark.parametrize("make", ORDERS)
def test_seed_determines_the_order(make: Callable[[int, int], BatchSampler]) -> None:
    """The same seed gives the same batches, another seed others; b int64 indices each."""
    assert take_indices(make(3, 1), 3) == take_indices(make(3, 1), 3)
    assert take_indices(make(3, 1), 3) != take_indices(make(3, 2), 3)
    assert ((3,), np.int64) == (make(3, 1)(0).shape, make(3, 1)(0).dtype)


def test_weighted_frequencies() -> None:
    """Weights 0, 1 and 3 of four: never, a quarter and three quarters of 4000 draws."""
    indices = take_indices(weighted(np.array([0.0, 1, 3]), 40, seed=0), 100)
    never, quarter, rest = np.bincount(indices, minlength=3)
    assert 0 == never
    assert 900 < quarter < 1100
    assert 4000 == quarter + rest


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, -0.1], [1.0, np.nan], [1.0, np.inf]])
def test_invalid_probabilities_are_refused(values: list[float]) -> None:
    """All zero, negative or not finite."""
    with pytest.raises(
        ValueError, match="all must be finite and 0 or more, and at least one above 0"
    ):
        weighted(np.array(values), 2, seed=0)


@pytest.mark.parametrize(("num_frames", "batch_size"), [(0, 4), (4, 0)])
def test_empty_sets_and_batches_are_refused(num_frames: int, batch_size: int) -> None:
    """No frames, or an empty batch, is an error before the first batch."""
    with pytest.raises(ValueError, match="both must be at least 1"):
        shuffled(num_frames, batch_size, seed=0)
    with pytest.raises(ValueError, match="both must be at least 1"):
        weighted(np.ones(num_frames), batch_size, seed=0)
