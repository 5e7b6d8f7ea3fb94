"""Batch samplers: the frames of an update as a pure function of the seed and its number."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BatchSampler = Callable[[int], NDArray[np.int64]]
"""From the number of updates done, 0, 1, ..., to the (b,) frame indices of the next batch.

A sampler keeps no state, so that a training resumes at any update, in any number of processes."""

# Part of the generator's seed: each purpose has its own random numbers.
_SHUFFLE, _WEIGHTED = 0, 1


def shuffled(num_frames: int, batch_size: int, seed: int) -> BatchSampler:
    """Return a sampler that yields every frame once per epoch, each epoch in a new random order.

    Epochs follow each other without a gap: a batch may hold the end of one and the beginning of the
    next, and no frame is dropped.

    Args:
        num_frames: number of frames to choose from.
        batch_size: b; may exceed the number of frames.
        seed: 0 or more.

    Raises:
        ValueError: for no frames or an empty batch.
    """
    _check(num_frames, batch_size)

    @lru_cache(maxsize=2)
    def epoch(number: int) -> NDArray[np.int64]:
        return np.random.default_rng((seed, _SHUFFLE, number)).permutation(num_frames)

    def sample(updates: int) -> NDArray[np.int64]:
        positions = range(updates * batch_size, (updates + 1) * batch_size)
        return np.array([epoch(i // num_frames)[i % num_frames] for i in positions])

    return sample


def weighted(probabilities: NDArray[np.float64], batch_size: int, seed: int) -> BatchSampler:
    """Return a sampler that draws frames with replacement, each with its own probability.

    Args:
        probabilities: (n,), one per frame, 0 or more; they need not sum to 1.
        batch_size: b.
        seed: 0 or more.

    Raises:
        ValueError: for probabilities that are negative, not finite or all 0, or for an empty batch.
    """
    _check(len(probabilities), batch_size)
    total = probabilities.sum()
    if not (probabilities.min() >= 0 and 0 < total < np.inf):
        raise ValueError(
            f"the probabilities of the frames range from {probabilities.min()} to "
            f"{probabilities.max()}; all must be finite and 0 or more, and at least one above 0"
        )
    shares = probabilities / total

    def sample(updates: int) -> NDArray[np.int64]:
        generator = np.random.default_rng((seed, _WEIGHTED, updates))
        return generator.choice(len(shares), batch_size, p=shares)

    return sample


def _check(num_frames: int, batch_size: int) -> None:
    if min(num_frames, batch_size) < 1:
        raise ValueError(
            f"batches of {batch_size} from {num_frames} frames; both must be at least 1"
        )
