"""pipeline.flows.procfile: processes that start and end together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = """
import os, pathlib
from pipeline.flows import procfile
try:
    procfile.run_procfile(pathlib.Path("Procfile"), os.environ, lambda: print("all are up", flush=True))
except ValueError as mistake:
    raise SystemExit(f"error: {mistake}")
"""
NOTES_ITS_CHILD = "stays: sh -c 'sh -c \"echo \\$\\$ > child; exec sleep 60\" & wait'"


def start(folder: Path, *lines: str) -> subprocess.Popen[str]:
    """Run a Procfile in a process of its own: signals go to the main thread there."""
    (folder / "Procfile").write_text("\n".join(lines) + "\n")
    return subprocess.Popen(
        [sys.executable, "-c", CODE],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_gone(pid_file: Path, within: float = 10.0) -> bool:
    """Whether the process that wrote its id there ends in time."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not Path("/proc", pid_file.read_text().strip()).exists():
            return True
        time.sleep(0.05)
    return False


def wait_for(pid_file: Path) -> None:
    """Wait until a process has written its id."""
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_one_that_ends_ends_all_and_is_named(tmp_path: Path) -> None:
    """The others end with all their children; the message has the first one's last lines."""
    process = start(tmp_path, NOTES_ITS_CHILD, "fails: sleep 0.3; echo the disk is full; exit 3")
    _, errors = process.communicate(timeout=30)
    assert "error: fails ended by itself (exit status 3)" in errors
    assert errors.endswith("  the disk is full\n")
    assert is_gone(tmp_path / "child")


def test_what_the_first_to_end_left_ends_too(tmp_path: Path) -> None:
    """The child of a process that was killed, and so could not end it, does not stay."""
    leaves = (
        "killed: sh -c 'echo $$ > child; exec sleep 60' > /dev/null 2>&1 & sleep 0.3; kill -9 $$"
    )
    process = start(tmp_path, leaves)
    _, errors = process.communicate(timeout=30)
    assert "error: killed ended by itself" in errors
    assert is_gone(tmp_path / "child", within=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_nothing_outlives_them(tmp_path: Path, number: int) -> None:
    """Ctrl-C, a terminal that is closed, and even SIGKILL end every child."""
    process = start(tmp_path, NOTES_ITS_CHILD)
    wait_for(tmp_path / "child")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert is_gone(tmp_path / "child")


def test_a_request_to_end_is_no_failure(tmp_path: Path) -> None:
    """After ctrl-C the exit status is 0, and the message was given once all had started."""
    process = start(tmp_path, "stays: sleep 60")
    assert process.stdout is not None
    while "all are up" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert 0 == process.returncode
