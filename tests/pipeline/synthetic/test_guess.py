"""The guesser that never looks at the picture, which every network must beat."""

import numpy as np
import pytest

from benchmarks.synthetic import guess_by_position, score_guess
from segformer.cityscapes import IGNORE


def test_the_guess_is_the_class_met_most_often_there() -> None:
    """Void counts for nothing, and where there is only void the overall favourite is said."""
    frames = [np.array([[0, 2, IGNORE]]), np.array([[2, 2, IGNORE]]), np.array([[0, IGNORE, 255]])]
    guess = guess_by_position(frame.astype(np.uint8) for frame in frames)
    assert [[0, 2, 2]] == guess.tolist()


def test_the_guess_is_scored_on_every_frame() -> None:
    """Hits and misses of all frames are summed, and void is left out."""
    guess = np.array([[0, 2]], np.uint8)
    frames = [np.array([[0, 0]], np.uint8), np.array([[0, IGNORE]], np.uint8)]
    confusion = score_guess(guess, frames)
    assert (2, 1, 3) == (int(confusion[0, 0]), int(confusion[0, 2]), int(confusion.sum()))


def test_nothing_to_learn_from_is_refused() -> None:
    """Without a single label map there is no guess."""
    with pytest.raises(ValueError, match="no label map given"):
        guess_by_position([])
