from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from segformer.data.sampling import BatchSampler, shuffled, weighted

ORDERS = [partial(shuffled, 9), partial(weighted, np.arange(1.0, 10.0))]


def first(order: BatchSampler, updates: int) -> list[int]:
    """The indices of the first batches, one after the other."""
    return np.concatenate([order(i) for i in range(updates)]).tolist()


def test_an_epoch_shows_every_frame_once_in_an_order_of_its_own() -> None:
    """Within an epoch no frame comes twice; the next epoch has another order."""
    shown = first(shuffled(12, 4, seed=0), 6)
    assert list(range(12)) == sorted(shown[:12]) == sorted(shown[12:])
    assert shown[:12] != shown[12:]
    assert shown[:12] != list(range(12))


def test_nothing_is_dropped_between_epochs() -> None:
    """With 7 frames and batches of 3, seven batches are three whole epochs."""
    shown = first(shuffled(7, 3, seed=0), 7)
    assert [list(range(7))] * 3 == [sorted(shown[i : i + 7]) for i in (0, 7, 14)]


@pytest.mark.parametrize("num_frames", [1, 3, 5])
def test_fewer_frames_than_a_batch_still_fill_it(num_frames: int) -> None:
    """A small set gives full batches, in which every frame occurs."""
    batch = shuffled(num_frames, 8, seed=0)(0).tolist()
    assert 8 == len(batch)
    assert set(range(num_frames)) == set(batch)


@pytest.mark.parametrize("make", ORDERS)
def test_any_update_may_be_asked_for_first(make: Callable[[int, int], BatchSampler]) -> None:
    """A batch is the same whether those before it were asked for or not, or come after."""
    expected = first(make(4, 5), 9)
    order = make(4, 5)
    assert expected[32:] == order(8).tolist()
    assert expected[8:12] == order(2).tolist()


@pytest.mark.parametrize("make", ORDERS)
def test_the_seed_decides_the_order(make: Callable[[int, int], BatchSampler]) -> None:
    """The same seed gives the same batches, another seed others; b int64 indices each."""
    assert first(make(3, 1), 3) == first(make(3, 1), 3)
    assert first(make(3, 1), 3) != first(make(3, 2), 3)
    assert ((3,), np.int64) == (make(3, 1)(0).shape, make(3, 1)(0).dtype)


def test_weighted_frames_come_as_often_as_their_weights_say() -> None:
    """Weights 0, 1 and 3 of four: never, a quarter and three quarters of 4000 draws."""
    drawn = first(weighted(np.array([0.0, 1, 3]), 40, seed=0), 100)
    never, quarter, rest = np.bincount(drawn, minlength=3)
    assert 0 == never
    assert 900 < quarter < 1100
    assert 4000 == quarter + rest


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, -0.1], [1.0, np.nan], [1.0, np.inf]])
def test_impossible_probabilities_are_refused(values: list[float]) -> None:
    """All zero, negative or not finite."""
    with pytest.raises(
        ValueError, match="all must be finite and 0 or more, and at least one above 0"
    ):
        weighted(np.array(values), 2, seed=0)


@pytest.mark.parametrize(("num_frames", "batch_size"), [(0, 4), (4, 0)])
def test_nothing_to_choose_is_refused(num_frames: int, batch_size: int) -> None:
    """No frame, or a batch of none, is an error before the first batch."""
    with pytest.raises(ValueError, match="both must be at least 1"):
        shuffled(num_frames, batch_size, seed=0)
    with pytest.raises(ValueError, match="both must be at least 1"):
        weighted(np.ones(num_frames), batch_size, seed=0)
