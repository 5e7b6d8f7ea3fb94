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
    procfile.run_procfile(
        pathlib.Path("Procfile"), os.environ, lambda: print("all started", flush=True)
    )
except ValueError as error:
    raise SystemExit(f"error: {error}")
"""
SERVICE_WITH_CHILD = "service: sh -c 'sh -c \"echo \\$\\$ > child; exec sleep 60\" & wait'"


def start(folder: Path, *lines: str) -> subprocess.Popen[str]:
    """Run a Procfile in a new process, where signals reach the main thread."""
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
    """Return whether the process whose id is in the file ends within `within` seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not Path("/proc", pid_file.read_text().strip()).exists():
            return True
        time.sleep(0.05)
    return False


def wait_for(pid_file: Path) -> None:
    """Wait until a process has written its id to the file."""
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_end_of_one_process_ends_all(tmp_path: Path) -> None:
    """The other processes end with their children; the error has the last lines of the first."""
    process = start(tmp_path, SERVICE_WITH_CHILD, "fails: sleep 0.3; echo the disk is full; exit 3")
    _, errors = process.communicate(timeout=30)
    assert "error: fails exited with status 3, so all other services were stopped" in errors
    assert errors.endswith("  the disk is full\n")
    assert is_gone(tmp_path / "child")


def test_child_of_a_killed_process_ends(tmp_path: Path) -> None:
    """The child of a process that was killed, and could not end it, ends too."""
    service = (
        "killed: sh -c 'echo $$ > child; exec sleep 60' > /dev/null 2>&1 & sleep 0.3; kill -9 $$"
    )
    process = start(tmp_path, service)
    _, errors = process.communicate(timeout=30)
    assert "error: killed exited with status -9" in errors
    assert is_gone(tmp_path / "child", within=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_no_child_outlives_the_manager(tmp_path: Path, number: int) -> None:
    """Ctrl-C, a closed terminal, and even SIGKILL end every child."""
    process = start(tmp_path, SERVICE_WITH_CHILD)
    wait_for(tmp_path / "child")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert is_gone(tmp_path / "child")


def test_interruption_is_no_failure(tmp_path: Path) -> None:
    """After ctrl-C the exit status is 0; the callback was called once all had started."""
    process = start(tmp_path, "service: sleep 60")
    assert process.stdout is not None
    while "all started" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert 0 == process.returncode
