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


def make_state(step: int) -> dict[str, Any]:
    """A state that differs from that of any other step."""
    return {"step": step, "weights": torch.full((1000,), float(step)), "history": [[1, 0.5, None]]}


def test_newest_state_is_loaded(tmp_path: Path) -> None:
    """The newest state is loaded unchanged."""
    snapshots = Snapshots(tmp_path / "ce-0")
    for step in (7, 12):
        snapshots.write(make_state(step))
    loaded = snapshots.load_newest()
    assert loaded is not None
    assert 12 == loaded["step"]
    assert torch.equal(make_state(12)["weights"], loaded["weights"])
    assert [[1, 0.5, None]] == loaded["history"]


def test_two_states_are_kept(tmp_path: Path) -> None:
    """The newest and the one before it, ordered by step, not alphabetically."""
    snapshots = Snapshots(tmp_path)
    for step in (8, 90, 100):
        snapshots.write(make_state(step))
    assert [90, 100] == snapshots.steps()
    assert 2 == len(list(tmp_path.iterdir()))


def test_no_state(tmp_path: Path) -> None:
    """Neither an empty nor a missing folder is an error."""
    assert Snapshots(tmp_path).load_newest() is None
    assert Snapshots(tmp_path / "missing").load_newest() is None


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_damaged_state_is_skipped(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A truncated, altered or empty state: the one before is loaded, with a warning."""
    snapshots = Snapshots(tmp_path)
    for step in (1, 2):
        snapshots.write(make_state(step))
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
        loaded = snapshots.load_newest()
    assert loaded is not None
    assert 1 == loaded["step"]
    assert newest.name in caplog.text


def test_pickled_code_is_refused(tmp_path: Path) -> None:
    """A state that would run code when loaded is refused, whatever its digest."""
    snapshots = Snapshots(tmp_path)
    snapshots.write(make_state(1) | {"stranger": Path("code")})
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        snapshots.load_newest()


def test_full_disk_keeps_the_existing_states(tmp_path: Path) -> None:
    """An OSError is raised, the older state stays the newest, and no partial file is left."""
    snapshots = Snapshots(tmp_path)
    snapshots.write(make_state(1))
    (tmp_path / "newest.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as full:
        snapshots.write(make_state(2))
    assert errno.ENOSPC == full.value.errno
    assert [1] == snapshots.steps()
    assert 1 == len(list(tmp_path.iterdir()))


@contextmanager
def limit_file_size(limit: int) -> Iterator[None]:
    """Make the system refuse files larger than this many bytes."""
    before, highest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, highest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, highest))


@pytest.mark.parametrize("kilobytes", [200, 1500, 3050, 3107])
def test_disk_full_at_any_point_raises_oserror(tmp_path: Path, kilobytes: int) -> None:
    """Wherever it happens in a state of megabytes, the older state stays and no part is left."""
    snapshots = Snapshots(tmp_path)
    snapshots.write(make_state(1))
    large = [torch.zeros(2**18) for _ in range(3)]
    small = [torch.zeros(300) for _ in range(60)]
    with limit_file_size(1024 * kilobytes), pytest.raises(OSError, match="too large") as full:
        snapshots.write({"step": 2, "large": large, "small": small})
    assert errno.EFBIG == full.value.errno
    assert [1] == snapshots.steps()
    assert 1 == len(list(tmp_path.iterdir()))
