"""pipeline.process_group: no process outlives its caller."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import process_group

# The child of the command writes its id and keeps running, as a stage does below DVC.
PARENT_SHELL = "sh -c 'echo $$ > child; echo started; exec sleep 60' & wait"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start_and_read(command: str) -> None:
    """Start a shell command and return at its first line of output."""
    with process_group.start_process_group(["/bin/sh", "-c", command], os.environ) as process:
        assert process.stdout is not None
        process.stdout.readline()


def has_ended(pid_file: Path, timeout: float = 5.0) -> bool:
    """Whether a process ends in time."""
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_the_child_of_the_command_ends_with_the_block() -> None:
    """Leaving the block early ends the command and the process that the command started."""
    start_and_read(PARENT_SHELL)
    assert has_ended(Path("child"))


def test_a_child_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not end on SIGTERM is killed after GRACE_SECONDS."""
    monkeypatch.setattr(process_group, "GRACE_SECONDS", 0.3)
    start_and_read("trap '' TERM; echo $$ > child; echo started; while true; do sleep 0.1; done")
    assert has_ended(Path("child"))


def test_a_child_has_time_to_clean_up() -> None:
    """A process that needs a moment after SIGTERM gets it."""
    start_and_read("trap 'sleep 0.3; echo saved > state; exit' TERM; echo on; while :; do :; done")
    assert "saved\n" == Path("state").read_text()


def test_a_process_exits_with_its_parent() -> None:
    """The child detects SIGKILL of the parent within a second, and its stack unwinds."""
    child = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from pipeline.process_group import exit_with_parent\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
        "try:\n"
        "    with exit_with_parent():\n"
        "        Path('child').write_text(str(os.getpid()))\n"
        "        time.sleep(60)\n"
        "finally:\n"
        "    Path('state').write_text('saved')\n"
    )
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"),
            *(sys.executable, "-c", child),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(process_group.__file__).parents[1])},
    )
    with parent:
        while not (Path("child").exists() and Path("child").read_text()):
            time.sleep(0.05)
        parent.kill()
    assert has_ended(Path("child"))
    assert "saved" == Path("state").read_text()


def test_the_group_ends_when_the_caller_is_killed() -> None:
    """Even SIGKILL of the caller, which cannot clean up, leaves no process behind."""
    program = (
        "import os, sys\n"
        "from pipeline.process_group import start_process_group\n"
        f"with start_process_group(['/bin/sh', '-c', {PARENT_SHELL!r}], os.environ) as process:\n"
        "    print(process.stdout.readline(), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    root = Path(process_group.__file__).parents[1]
    caller = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with caller:
        assert caller.stdout is not None
        caller.stdout.readline()
        caller.kill()
    assert has_ended(Path("child"))
