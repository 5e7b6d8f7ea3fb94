"""Run a command together with all that it starts, so that none of it outlives its caller."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

PATIENCE = 20
"""Seconds a command has to end in order; Prefect kills a cancelled flow after 30."""


@contextmanager
def started(
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
    with guarded(process.pid):  # until the last of the group has ended
        try:
            yield process
        finally:
            _end(process)


@contextmanager
def guarded(group: int) -> Iterator[None]:
    """Have a shell wait on a pipe that only we hold open: if we die, it ends the group.

    PR_SET_PDEATHSIG would reach the head of the group alone, and DVC dies of it without ending
    the stage that it started.
    """
    guard = subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -TERM -{group}; sleep {PATIENCE}; kill -KILL -{group}"],
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


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask every process of the group to end, wait for them, and kill what is left."""
    deadline = time.monotonic() + PATIENCE
    try:
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()  # a dead process that nobody asked after still counts as alive
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        pass  # all have ended
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
