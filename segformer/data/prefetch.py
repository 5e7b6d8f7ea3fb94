"""Prefetch: compute the next items in threads while the caller works on the current one."""

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

    An error in `make` is raised where its result is requested. The threads end when the iterator is
    closed, deleted or has raised.

    Args:
        make: called in the threads, concurrently if there are several.
        start: the first argument.
        ahead: largest number of results computed or being computed before they are requested.
        threads: number of threads; results are in order for any number.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        numbers = count(start)
        pending = deque(pool.submit(make, next(numbers)) for _ in range(ahead))
        while True:
            result = pending.popleft().result()
            pending.append(pool.submit(make, next(numbers)))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
