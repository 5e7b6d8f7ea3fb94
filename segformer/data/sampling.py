"""Which frames come in which update: pure functions of the seed and of the updates done so far."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BatchSampler = Callable[[int], NDArray[np.int64]]
"""From the updates done so far, 0, 1, ..., to the (b,) indices of the next batch's frames.

It keeps no state, so that a training goes on at any update, in any number of processes."""

# What the draws are for stands beside the seed, so that no two of them are the same numbers.
_SHUFFLE, _WEIGHTED = 0, 1


def shuffled(num_frames: int, batch_size: int, seed: int) -> BatchSampler:
    """Show every frame once in an epoch, each epoch in an order of its own.

    The epochs follow each other without a gap: a batch may hold the end of one and the beginning of
    the next, and no frame is left out.

    Args:
        num_frames: how many there are to choose from.
        batch_size: b, more than there are frames if need be.
        seed: 0 or more.

    Raises:
        ValueError: for no frame, or for an empty batch.
    """
    _check(num_frames, batch_size)

    @lru_cache(maxsize=2)
    def epoch(number: int) -> NDArray[np.int64]:
        return np.random.default_rng((seed, _SHUFFLE, number)).permutation(num_frames)

    def order(updates: int) -> NDArray[np.int64]:
        shown = range(updates * batch_size, (updates + 1) * batch_size)
        return np.array([epoch(i // num_frames)[i % num_frames] for i in shown])

    return order


def weighted(probabilities: NDArray[np.float64], batch_size: int, seed: int) -> BatchSampler:
    """Draw each frame anew with a probability of its own.

    Args:
        probabilities: (n,), 0 or more, of each frame; they need not sum to 1.
        batch_size: b.
        seed: 0 or more.

    Raises:
        ValueError: for probabilities that are negative, not finite or all 0, or an empty batch.
    """
    _check(len(probabilities), batch_size)
    total = probabilities.sum()
    if not (probabilities.min() >= 0 and 0 < total < np.inf):
        raise ValueError(
            f"the frames' probabilities are from {probabilities.min()} to {probabilities.max()}; "
            "each must be finite and 0 or more, and one of them above 0"
        )
    shares = probabilities / total

    def order(updates: int) -> NDArray[np.int64]:
        generator = np.random.default_rng((seed, _WEIGHTED, updates))
        return generator.choice(len(shares), batch_size, p=shares)

    return order


def _check(num_frames: int, batch_size: int) -> None:
    if min(num_frames, batch_size) < 1:
        raise ValueError(
            f"batches of {batch_size} from {num_frames} frames; both must be at least 1"
        )
