"""Lets SIGTERM unwind the stack like ctrl-C does, so that what is open gets closed."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE_SECONDS = 8.0
"""Seconds in which work that was asked to stop may come to a good place; then the stack unwinds.

A machine that is taken away often leaves 30, and some leave 10. Whoever waits outside waits longer,
or an end in order would be cut: LAST, torchrun.PATIENCE, process_group.PATIENCE, and Prefect's 30.
"""

FORCED_EXIT_SECONDS = 9.0
"""Seconds after which a process that cannot unwind, inside one long call, ends on the spot."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
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


@contextmanager
def catch_stop_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGTERM or ctrl-C asked to stop.

    The first of them only asks. After PATIENCE, or at a second ctrl-C, the stack unwinds:
    SystemExit. A second SIGTERM says nothing new: torchrun passes on the one that all got. Where
    this is no main thread, nobody is asked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requests: list[int] = []

    def ask(number: int, _frame: object) -> None:
        is_insisting = number == signal.SIGINT and number in requests
        if is_insisting or number == signal.SIGALRM:
            sys.exit(128 + requests[0])
        if not requests:
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
        requests.append(number)

    numbers = (*_STOP_SIGNALS, signal.SIGALRM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        with _enforce_deadline():
            yield lambda: bool(requests)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if requests:
        sys.exit(128 + requests[0])


@contextmanager
def _enforce_deadline() -> Iterator[None]:
    """Have a thread end the process LAST after a request, unless the block was left by then.

    Python runs a handler only between two of its own instructions, so the thread hears of a signal
    through a socket, into which the system's own handler writes.
    """
    hearing, telling = socket.socketpair()
    telling.setblocking(False)
    is_over = threading.Event()
    watch = threading.Thread(target=_exit_after_deadline, args=(hearing, is_over), daemon=True)
    before = signal.set_wakeup_fd(telling.fileno(), warn_on_full_buffer=False)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        is_over.set()
        telling.close()
        watch.join()
        hearing.close()


def _exit_after_deadline(receiver: socket.socket, is_over: threading.Event) -> None:
    while heard := receiver.recv(1):
        if heard[0] in _STOP_SIGNALS:
            if not is_over.wait(FORCED_EXIT_SECONDS):
                os._exit(128 + heard[0])  # states on disk are whole: nothing is lost with it
            return
