import threading
import time
from itertools import islice

import pytest

from segformer.data.prefetch import prefetch


def num_threads() -> int:
    """The number of living prefetch threads."""
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order(threads: int) -> None:
    """From the start on, without a gap, though the first ones take longest."""

    def make(number: int) -> int:
        time.sleep(max(0, 9 - number) / 200)
        return number

    results = prefetch(make, 7, ahead=3, threads=threads)
    assert [7, 8, 9, 10, 11, 12] == list(islice(results, 6))


def test_results_are_computed_ahead() -> None:
    """As many as requested, and no more."""
    numbers = []
    is_third = threading.Event()

    def make(number: int) -> None:
        numbers.append(number)
        if number == 2:
            is_third.set()

    results = prefetch(make, 0, ahead=2, threads=1)
    next(results)
    assert is_third.wait(10)
    results.close()
    assert [0, 1, 2] == numbers


def test_error_is_raised_in_the_caller() -> None:
    """In place of the result, with its own message; no thread is left."""

    def make(number: int) -> int:
        if number == 2:
            raise OSError("the disk is gone")
        return number

    results = prefetch(make, 0, ahead=2, threads=1)
    assert [0, 1] == [next(results), next(results)]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)
    assert 0 == num_threads()


def test_closing_ends_the_threads() -> None:
    """Also with results that nobody requested."""
    results = prefetch(str, 0, ahead=4, threads=2)
    next(results)
    assert 0 < num_threads()
    results.close()
    assert 0 == num_threads()


def test_deleting_ends_the_threads() -> None:
    """A deleted iterator has no threads."""
    results = prefetch(str, 0, ahead=4, threads=2)
    next(results)
    del results
    assert 0 == num_threads()
