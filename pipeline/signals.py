"""Handles SIGTERM and ctrl-C so that the stack unwinds and everything open is closed."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE_SECONDS = 8.0
"""Seconds that work has to reach a safe point after a request to stop; then the stack unwinds.

A preempted machine often leaves 30 seconds, some leave 10. Each outer process waits longer than the
inner one: FORCED_EXIT_SECONDS, torchrun.GRACE_SECONDS, process_group.GRACE_SECONDS, Prefect's 30.
"""

FORCED_EXIT_SECONDS = 9.0
"""Seconds after which a process exits at once if one long call keeps it from unwinding."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, unless it has a handler or this is not the main thread."""
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
    """Yield a function that returns whether SIGTERM or ctrl-C has requested a stop.

    The first signal only sets the request. After GRACE_SECONDS, or at a second ctrl-C, the stack
    unwinds: SystemExit. A second SIGTERM changes nothing: torchrun forwards the one that all
    processes received. Outside the main thread no signal is caught.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requests: list[int] = []

    def handle(number: int, _frame: object) -> None:
        is_second_interrupt = number == signal.SIGINT and number in requests
        if is_second_interrupt or number == signal.SIGALRM:
            sys.exit(128 + requests[0])
        if not requests:
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
        requests.append(number)

    numbers = (*_STOP_SIGNALS, signal.SIGALRM)
    before = [signal.signal(number, handle) for number in numbers]
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
    """Start a thread that ends the process FORCED_EXIT_SECONDS after a request.

    Python runs a handler only between two of its own instructions, so the thread reads signals from
    a socket, into which the C-level handler writes. Leaving the block in time ends the thread.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    is_over = threading.Event()
    watcher = threading.Thread(target=_exit_after_deadline, args=(receiver, is_over), daemon=True)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        is_over.set()
        sender.close()
        watcher.join()
        receiver.close()


def _exit_after_deadline(receiver: socket.socket, is_over: threading.Event) -> None:
    while received := receiver.recv(1):
        if received[0] in _STOP_SIGNALS:
            if not is_over.wait(FORCED_EXIT_SECONDS):
                os._exit(128 + received[0])  # states on disk are written whole: none is lost
            return
