import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import IO

import pytest

from pipeline.download.partial_file import PartialFile, find_leftovers, partial_path


def test_pieces_become_the_file(tmp_path: Path) -> None:
    """Over two visits the pieces gather, and the name appears with the last of them."""
    target = tmp_path / "a.zip"
    with PartialFile(target) as into:
        into.append(b"first ")
    assert not target.exists()
    with PartialFile(target) as into:
        into.append(b"second")
        into.finalize()
    assert b"first second" == target.read_bytes()
    assert ["a.zip"] == [path.name for path in tmp_path.iterdir()]


def test_what_is_here_is_not_read_to_be_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eleven gigabytes take half a minute: of pieces that nobody needs no sum is made."""
    read: list[int] = []

    class Sum:
        """Of nothing; notes how much it was given."""

        def __init__(self, **_: bool) -> None:
            pass

        def update(self, piece: bytes) -> None:
            read.append(len(piece))

    monkeypatch.setattr(hashlib, "md5", Sum)
    partial_path(tmp_path / "a.zip").write_bytes(b"pieces")
    with PartialFile(tmp_path / "a.zip") as into:
        assert 6 == into.size
        into.restart()
        into.append(b"new")
    assert [3] == read


def test_the_sum_is_of_all_pieces(tmp_path: Path) -> None:
    """Of those from before too, whether it is asked for before or after more comes."""
    for asks_first in (False, True):
        partial_path(tmp_path / "a.zip").write_bytes(b"first ")
        with PartialFile(tmp_path / "a.zip") as into:
            if asks_first:
                assert hashlib.md5(b"first ").hexdigest() == into.md5
            into.append(b"second")
            assert hashlib.md5(b"first second").hexdigest() == into.md5


def test_pieces_may_gather_elsewhere(tmp_path: Path) -> None:
    """The name appears where it belongs; pieces, and what is bad, stay in the other folder."""
    with PartialFile(tmp_path / "kept" / "a.zip", tmp_path) as into:
        into.append(b"first")
        assert b"first" == partial_path(tmp_path / "a.zip").read_bytes()
        into.finalize()
    assert b"first" == (tmp_path / "kept" / "a.zip").read_bytes()
    with PartialFile(tmp_path / "kept" / "b.zip", tmp_path) as into:
        into.append(b"bad")
        assert tmp_path / "b.zip.bad" == into.quarantine()


def test_nothing_arrived_leaves_nothing(tmp_path: Path) -> None:
    """No empty file stays behind."""
    with PartialFile(tmp_path / "a.zip"):
        pass
    assert [] == list(tmp_path.iterdir())


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no other process is not called one."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ValueError, match=r"cannot be locked \(No locks available\)"):
        PartialFile(tmp_path / "a.zip")


def test_a_file_that_got_its_name_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened just before another process finished it, the whole file is not written on."""
    target = tmp_path / "a.zip"
    partial_path(target).write_bytes(b"whole")
    lock = fcntl.flock

    def finish_first(file: IO[bytes], how: int) -> None:
        if not target.exists():
            partial_path(target).rename(target)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with PartialFile(target) as into:
        assert 0 == into.size
        into.append(b"more")
    assert b"whole" == target.read_bytes()
    assert b"more" == partial_path(target).read_bytes()


def test_anothers_pieces_are_not_taken_away(tmp_path: Path) -> None:
    """Leaving with nothing removes one's own empty file, not one that has come in its place."""
    target = tmp_path / "a.zip"
    with PartialFile(target):
        partial_path(target).unlink()
        partial_path(target).write_bytes(b"another's")
    assert b"another's" == partial_path(target).read_bytes()


def test_the_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the name never stands for less than the whole."""
    target = tmp_path / "a.zip"
    named: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: named.append(target.exists()))
    with PartialFile(target) as into:
        into.append(b"whole")
        into.finalize()
    assert [False, True] == named


def test_what_is_left_over(tmp_path: Path) -> None:
    """Each kind of file that something left behind has its own remedy; good files have none.

    A folder is one thing, whatever lies in it.
    """
    for name in ("a.zip", "a.zip.download.part", "b/c.zip.bad", "d.zip.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1500))
    (tmp_path / "pack.part" / "train").mkdir(parents=True)
    for name in ("images.npy", "frames.csv.part"):
        (tmp_path / "pack.part" / "train" / name).write_bytes(bytes(1500))
    assert [
        f"{tmp_path / 'a.zip.download.part'}, 1.5 kB: a download that was cut short; the next one"
        " goes on there, or delete it",
        f"{tmp_path / 'b' / 'c.zip.bad'}, 1.5 kB: arrived, but is not what it should be, and is"
        " never used; delete it",
        f"{tmp_path / 'd.zip.part'}, 1.5 kB: what a stage that was killed had begun; delete it"
        " unless one is running",
        f"{tmp_path / 'pack.part'}, 3.0 kB: what a stage that was killed had begun; delete it"
        " unless one is running",
    ] == find_leftovers(tmp_path)
