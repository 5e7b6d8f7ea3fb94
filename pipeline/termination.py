"""Lets SIGTERM unwind the stack like ctrl-C does, so that what is open gets closed."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def unwinding() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, unless it has a handler already or this is no main thread."""
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


PATIENCE = 8.0
"""Seconds in which work that was asked to stop may come to a good place; a machine that is taken
away often leaves 30, and some leave 10."""


@contextmanager
def asked() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGTERM or ctrl-C asked to stop.

    The first of them only asks. After PATIENCE, or at the second, the stack unwinds: SystemExit.
    Where this is no main thread, nobody is asked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requests: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if requests:
            sys.exit(128 + requests[0])
        requests.append(number)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield lambda: bool(requests)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if requests:
        sys.exit(128 + requests[0])
