import errno
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from segformer.training.snapshots import Snapshots


def state(step: int) -> dict[str, Any]:
    """A state that can be told from that of another step."""
    return {"step": step, "weights": torch.full((1000,), float(step)), "history": [[1, 0.5, None]]}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """The newest state comes back equal."""
    snapshots = Snapshots(tmp_path / "ce-0")
    for step in (7, 12):
        snapshots.write(state(step))
    found = snapshots.load_newest()
    assert found is not None
    assert 12 == found["step"]
    assert torch.equal(state(12)["weights"], found["weights"])
    assert [[1, 0.5, None]] == found["history"]


def test_two_states_are_kept(tmp_path: Path) -> None:
    """The newest and the one before, in the order of steps and not of letters."""
    snapshots = Snapshots(tmp_path)
    for step in (8, 90, 100):
        snapshots.write(state(step))
    assert [90, 100] == snapshots.steps()
    assert 2 == len(list(tmp_path.iterdir()))


def test_no_state_is_none(tmp_path: Path) -> None:
    """Neither an empty folder nor one that does not exist is an error."""
    assert Snapshots(tmp_path).load_newest() is None
    assert Snapshots(tmp_path / "missing").load_newest() is None


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_state_is_passed_over(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A state cut short, with one other byte, or empty: the one before is taken, with a word."""
    snapshots = Snapshots(tmp_path)
    for step in (1, 2):
        snapshots.write(state(step))
    newest = max(tmp_path.iterdir())
    whole = newest.read_bytes()
    middle = len(whole) // 2
    newest.write_bytes(
        {
            "cut": whole[:middle],
            "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "emptied": b"",
        }[damage]
    )
    with caplog.at_level(logging.WARNING):
        found = snapshots.load_newest()
    assert found is not None
    assert 1 == found["step"]
    assert newest.name in caplog.text


def test_nothing_but_tensors_and_plain_values_is_read(tmp_path: Path) -> None:
    """A state that would run a stranger's code when read is refused, whatever its name says."""
    snapshots = Snapshots(tmp_path)
    snapshots.write(state(1) | {"stranger": Path("code")})
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        snapshots.load_newest()


def test_a_full_disk_leaves_the_states_that_are_there(tmp_path: Path) -> None:
    """The error is the system's, the older state stays the newest, and no piece is left over."""
    snapshots = Snapshots(tmp_path)
    snapshots.write(state(1))
    (tmp_path / "newest.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as full:
        snapshots.write(state(2))
    assert errno.ENOSPC == full.value.errno
    assert [1] == snapshots.steps()
    assert 1 == len(list(tmp_path.iterdir()))


@contextmanager
def no_file_above(limit: int) -> Iterator[None]:
    """Let the system refuse what would make a file larger than so many bytes."""
    before, highest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, highest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, highest))


@pytest.mark.parametrize("kilobytes", [200, 1500, 3050, 3107])
def test_a_disk_that_fills_midway_is_an_error_of_the_system(tmp_path: Path, kilobytes: int) -> None:
    """Wherever in a state of megabytes it happens; the older state stays, and no piece is left."""
    snapshots = Snapshots(tmp_path)
    snapshots.write(state(1))
    large = [torch.zeros(2**18) for _ in range(3)]
    small = [torch.zeros(300) for _ in range(60)]
    with no_file_above(1024 * kilobytes), pytest.raises(OSError, match="too large") as full:
        snapshots.write({"step": 2, "large": large, "small": small})
    assert errno.EFBIG == full.value.errno
    assert [1] == snapshots.steps()
    assert 1 == len(list(tmp_path.iterdir()))
