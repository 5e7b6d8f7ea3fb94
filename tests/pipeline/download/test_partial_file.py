"""pipeline.download.partial_file: received bytes, locks and leftovers."""

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import IO

import pytest

from pipeline.download.partial_file import PartialFile, find_leftovers, partial_path


def test_a_file_in_two_sessions(tmp_path: Path) -> None:
    """Bytes are appended in two sessions, and the target appears when it is complete."""
    target = tmp_path / "a.zip"
    with PartialFile(target) as partial_file:
        partial_file.append(b"first ")
    assert not target.exists()
    with PartialFile(target) as partial_file:
        partial_file.append(b"second")
        partial_file.finalize()
    assert b"first second" == target.read_bytes()
    assert ["a.zip"] == [path.name for path in tmp_path.iterdir()]


def test_discarded_bytes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No md5 sum is computed of bytes that are discarded: 11 GB would take half a minute."""
    sizes: list[int] = []

    class RecordingDigest:
        """Records the size of each update."""

        def __init__(self, **_: bool) -> None:
            pass

        def update(self, piece: bytes) -> None:
            sizes.append(len(piece))

    monkeypatch.setattr(hashlib, "md5", RecordingDigest)
    partial_path(tmp_path / "a.zip").write_bytes(b"pieces")
    with PartialFile(tmp_path / "a.zip") as partial_file:
        assert 6 == partial_file.size
        partial_file.restart()
        partial_file.append(b"new")
    assert [3] == sizes


def test_the_md5_sum_is_of_all_bytes(tmp_path: Path) -> None:
    """It has the bytes of an earlier session, whether it is read before or after an append."""
    for reads_first in (False, True):
        partial_path(tmp_path / "a.zip").write_bytes(b"first ")
        with PartialFile(tmp_path / "a.zip") as partial_file:
            if reads_first:
                assert hashlib.md5(b"first ").hexdigest() == partial_file.md5
            partial_file.append(b"second")
            assert hashlib.md5(b"first second").hexdigest() == partial_file.md5


def test_a_separate_folder_for_partial_files(tmp_path: Path) -> None:
    """The target appears in its folder; partial and quarantined files stay in the other one."""
    with PartialFile(tmp_path / "kept" / "a.zip", tmp_path) as partial_file:
        partial_file.append(b"first")
        assert b"first" == partial_path(tmp_path / "a.zip").read_bytes()
        partial_file.finalize()
    assert b"first" == (tmp_path / "kept" / "a.zip").read_bytes()
    with PartialFile(tmp_path / "kept" / "b.zip", tmp_path) as partial_file:
        partial_file.append(b"bad")
        assert tmp_path / "b.zip.bad" == partial_file.quarantine()


def test_no_empty_file_is_left(tmp_path: Path) -> None:
    """Without received bytes no file is left."""
    with PartialFile(tmp_path / "a.zip"):
        pass
    assert [] == list(tmp_path.iterdir())


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a disk without locks does not blame another process."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ValueError, match=r"cannot be locked \(No locks available\)"):
        PartialFile(tmp_path / "a.zip")


def test_a_file_completed_between_open_and_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that another process completed after it was opened is not appended to."""
    target = tmp_path / "a.zip"
    partial_path(target).write_bytes(b"whole")
    lock = fcntl.flock

    def finish_first(file: IO[bytes], how: int) -> None:
        if not target.exists():
            partial_path(target).rename(target)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with PartialFile(target) as partial_file:
        assert 0 == partial_file.size
        partial_file.append(b"more")
    assert b"whole" == target.read_bytes()
    assert b"more" == partial_path(target).read_bytes()


def test_another_process_s_file_is_not_removed(tmp_path: Path) -> None:
    """An exit without bytes removes its own empty file, not one that has replaced it."""
    target = tmp_path / "a.zip"
    with PartialFile(target):
        partial_path(target).unlink()
        partial_path(target).write_bytes(b"another's")
    assert b"another's" == partial_path(target).read_bytes()


def test_the_file_is_synced_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the target is never incomplete."""
    target = tmp_path / "a.zip"
    exists_at_sync: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: exists_at_sync.append(target.exists()))
    with PartialFile(target) as partial_file:
        partial_file.append(b"whole")
        partial_file.finalize()
    assert [False, True] == exists_at_sync


def test_leftovers_and_their_remedies(tmp_path: Path) -> None:
    """Each kind of leftover has its own remedy; complete files are not listed.

    A folder is one leftover, whatever its content.
    """
    for name in ("a.zip", "a.zip.download.part", "b/c.zip.bad", "d.zip.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1500))
    (tmp_path / "pack.part" / "train").mkdir(parents=True)
    for name in ("images.npy", "frames.csv.part"):
        (tmp_path / "pack.part" / "train" / name).write_bytes(bytes(1500))
    assert [
        f"{tmp_path / 'a.zip.download.part'}, 1.5 kB: an interrupted download; the next one"
        " resumes it, or delete it",
        f"{tmp_path / 'b' / 'c.zip.bad'}, 1.5 kB: a download with the wrong content, which is"
        " never used; delete it",
        f"{tmp_path / 'd.zip.part'}, 1.5 kB: unfinished output of a killed stage; delete it"
        " unless a stage is running",
        f"{tmp_path / 'pack.part'}, 3.0 kB: unfinished output of a killed stage; delete it"
        " unless a stage is running",
    ] == find_leftovers(tmp_path)
