"""pipeline.locks: one holder at a time, and a lock that ends with its process."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.locks import RETRAIN_LOCK, LockedError, exclusive, lock, lock_workspace


def refusal(holder: str) -> str:
    """The message for the second process."""
    return f"{holder} has it"


def is_free(path: Path) -> bool:
    """Whether a lock file can be held."""
    try:
        with exclusive(path, refusal):
            return True
    except LockedError:
        return False


@pytest.mark.parametrize(
    ("holder", "expected"), [("calm-otter", "calm-otter, process {}"), ("", "process {}")]
)
def test_the_error_names_the_holder(tmp_path: Path, holder: str, expected: str) -> None:
    """The message names the holder and its process, and the holder keeps the lock."""
    path = tmp_path / "new folder" / "lock"
    with exclusive(path, refusal, holder):
        with pytest.raises(LockedError) as caught, exclusive(path, refusal):
            pass
        assert f"{expected.format(os.getpid())} has it" == str(caught.value)
        assert not is_free(path)


def test_the_file_names_only_its_last_holder(tmp_path: Path) -> None:
    """Each holder replaces the name of the one before it; the file stays."""
    path = tmp_path / "lock"
    for name in ("a long name", "short"):
        with exclusive(path, refusal, name):
            assert f"{name}, process {os.getpid()}" == path.read_text()
    assert path.exists()
    assert is_free(path)


def test_the_error_for_an_empty_lock_file(tmp_path: Path) -> None:
    """Between locking and writing the file is empty; the message is a sentence all the same."""
    path = tmp_path / "lock"
    with path.open("a") as file:
        lock(file)
        with (
            pytest.raises(LockedError, match=r"^another process has it$"),
            exclusive(path, refusal),
        ):
            pass


def test_an_error_of_the_block_passes_unchanged(tmp_path: Path) -> None:
    """A LockedError raised inside the block is not taken for the outer lock's; both are freed."""
    inner = LockedError("the inner one")
    with pytest.raises(LockedError) as caught, exclusive(tmp_path / "lock", refusal):
        raise inner
    assert inner is caught.value
    assert is_free(tmp_path / "lock")


def test_a_disk_without_locks_raises_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system other than "held" reaches the caller as it is."""

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks"), exclusive(tmp_path / "lock", refusal):
        pass


def kill_holder(path: Path, child: str) -> int:
    """Kill a process that holds a lock and has a child; return the child, which is alive."""
    code = (
        "import os, pathlib, signal, subprocess, sys, time; from pipeline.locks import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1]), str):\n"
        f"    child = {child}\n"
        "    child or time.sleep(60)\n"
        "    print(child, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        pid = int(process.stdout.readline())
    process.wait()
    return pid


@pytest.mark.parametrize(
    ("child", "expected"),
    [("subprocess.Popen(['sleep', '60']).pid", True), ("os.fork()", False)],
    ids=["another program", "forked"],
)
def test_a_killed_holder_frees_the_lock(tmp_path: Path, child: str, expected: bool) -> None:
    """A killed process leaves the lock free; only a forked child keeps it, until it ends."""
    pid = kill_holder(tmp_path / "lock", child)
    try:
        assert expected == is_free(tmp_path / "lock")
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_second_retraining_is_refused(tmp_path: Path) -> None:
    """While one retraining runs, another one is refused, and the message names the first."""
    with (
        lock_workspace("flow run calm-otter", tmp_path),
        pytest.raises(LockedError, match=r"\(flow run calm-otter, process \d+\)"),
        lock_workspace("flow run wild-goose", tmp_path),
    ):
        pass


def test_the_next_retraining_may_begin_after_the_first(tmp_path: Path) -> None:
    """The folder is free again after the block."""
    for name in ("calm-otter", "wild-goose"):
        with lock_workspace(name, tmp_path):
            pass


def test_a_killed_retraining_frees_the_folder(tmp_path: Path) -> None:
    """A process that is killed while it holds the folder leaves it free."""
    code = (
        "import os, pathlib, sys; from pipeline import locks\n"
        "with locks.lock_workspace('it', pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / RETRAIN_LOCK).exists()
    with lock_workspace("the next", tmp_path):
        pass
