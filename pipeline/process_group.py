"""Run a command together with all that it starts, so that none of it outlives its caller."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

GRACE_SECONDS = 12
"""Seconds a command has to end in order: a cancelled retraining is over in 15."""


@contextmanager
def start_process_group(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command as the head of its own process group; end the group with the block.

    Both output streams come through `stdout`. The group also ends when this process is killed.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with start_watchdog(process.pid):  # until the last of the group has ended
        try:
            yield process
        finally:
            terminate_group(process.pid, process.poll)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def start_watchdog(group: int) -> Iterator[None]:
    """Have a shell wait on a pipe that only we hold open: if we die, it ends the group.

    PR_SET_PDEATHSIG would reach the head of the group alone, and DVC dies of it without ending
    the stage that it started.
    """
    guard = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            f"read _; kill -TERM -{group}; sleep {GRACE_SECONDS}; kill -KILL -{group}",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        assert guard.stdin is not None
        guard.stdin.close()


@contextmanager
def exit_with_parent() -> Iterator[None]:
    """Ask this process to end, with SIGTERM, once the one that started it is gone."""
    parent, is_over = os.getppid(), threading.Event()

    def watch() -> None:
        while not is_over.wait(1):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()


def terminate_group(group: int, reap: Callable[[], object] = lambda: None) -> None:
    """Ask every process of a group to end, wait for them, and kill what is left.

    Args:
        group: its number.
        reap: asks after children of ours: a dead one that nobody asked after counts as alive.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            reap()
            os.killpg(group, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        pass  # all have ended
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
