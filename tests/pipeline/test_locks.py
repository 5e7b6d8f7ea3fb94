"""pipeline.locks: one retraining at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import locks


def test_the_second_is_told_who_is_at_work(tmp_path: Path) -> None:
    """Where a retraining is at work, another one is refused, and the message names the first."""
    with (
        locks.lock_workspace("flow run calm-otter", tmp_path),
        pytest.raises(locks.LockedError, match=r"\(flow run calm-otter, process \d+\)"),
        locks.lock_workspace("flow run wild-goose", tmp_path),
    ):
        pass


def test_the_next_may_begin_when_the_first_is_done(tmp_path: Path) -> None:
    """The folder is free again after the block."""
    for name in ("calm-otter", "wild-goose"):
        with locks.lock_workspace(name, tmp_path):
            pass


def test_a_killed_retraining_blocks_nobody(tmp_path: Path) -> None:
    """A process that is killed while it holds the folder leaves it free."""
    code = (
        "import os, pathlib, sys; from pipeline import locks\n"
        "with locks.lock_workspace('it', pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / locks.LOCK_PATH).exists()
    with locks.lock_workspace("the next", tmp_path):
        pass
