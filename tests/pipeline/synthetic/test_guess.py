"""The baseline that guesses classes by position alone, without looking at the picture."""

import numpy as np
import pytest

from benchmarks.synthetic import guess_by_position, score_guess
from segformer.cityscapes import IGNORE


def test_guess_is_the_most_frequent_class_of_a_position() -> None:
    """Void is not counted; a position with void only gets the most frequent class of all."""
    frames = [np.array([[0, 2, IGNORE]]), np.array([[2, 2, IGNORE]]), np.array([[0, IGNORE, 255]])]
    guess = guess_by_position(frame.astype(np.uint8) for frame in frames)
    assert [[0, 2, 2]] == guess.tolist()


def test_guess_is_scored_on_all_frames() -> None:
    """The confusion is summed over all frames, without void."""
    guess = np.array([[0, 2]], np.uint8)
    frames = [np.array([[0, 0]], np.uint8), np.array([[0, IGNORE]], np.uint8)]
    confusion = score_guess(guess, frames)
    assert (2, 1, 3) == (int(confusion[0, 0]), int(confusion[0, 2]), int(confusion.sum()))


def test_guess_without_label_maps_is_refused() -> None:
    """Without label maps there is no guess."""
    with pytest.raises(ValueError, match="no label maps; give at least one"):
        guess_by_position([])
