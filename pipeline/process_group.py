"""Runs a command in a process group that does not outlive its caller."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

GRACE_SECONDS = 12
"""Seconds between SIGTERM and SIGKILL: a cancelled retraining ends within 15."""


@contextmanager
def start_process_group(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command as the leader of its own process group; end the group with the block.

    `stdout` carries both output streams. The group also ends when this process is killed.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with start_watchdog(process.pid):  # until the whole group has ended
        try:
            yield process
        finally:
            terminate_group(process.pid, process.poll)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def start_watchdog(group: int) -> Iterator[None]:
    """Start a shell that ends the group if this process dies: it reads a pipe that only we hold.

    PR_SET_PDEATHSIG would reach only the leader of the group, and DVC dies of it without ending
    the stage that it started.
    """
    watchdog = subprocess.Popen(
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
        watchdog.kill()
        watchdog.wait()
        assert watchdog.stdin is not None
        watchdog.stdin.close()


@contextmanager
def exit_with_parent() -> Iterator[None]:
    """Send SIGTERM to this process when its parent has ended."""
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
    """Send SIGTERM to a process group, wait, and kill the processes that are left.

    Args:
        group: the id of the group.
        reap: collects the exit status of our children: an uncollected one counts as alive.
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
