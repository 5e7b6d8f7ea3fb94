"""Make what will be asked for next in threads, while the caller works on what it has."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TypeVar

T = TypeVar("T")


def prefetch(
    make: Callable[[int], T], start: int, *, ahead: int, threads: int
) -> Generator[T, None, None]:
    """Yield make(start), make(start + 1) and so on, without end and in order.

    An error in `make` is raised where its result is asked for. The threads end when the iterator is
    closed, dropped or has raised.

    Args:
        make: called in the threads; where there are several, at once.
        start: the first number.
        ahead: how many results, at most, are made or being made that nobody has asked for yet.
        threads: how many; results come in order nevertheless.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        numbers = count(start)
        made = deque(pool.submit(make, next(numbers)) for _ in range(ahead))
        while True:
            result = made.popleft().result()
            made.append(pool.submit(make, next(numbers)))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
