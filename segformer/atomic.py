"""Files and folders that appear whole or not at all, also if the power goes."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to; on success it takes the place of `path`.

    What was at `path` is replaced, never written into (it may be a read-only link into a cache).
    On an error the half-written piece is removed and `path` stays as it was. Works for a file and
    for a folder; the parent folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _remove(part)
    try:
        yield part
        commit(part, path)
    finally:
        _remove(part)


def commit(part: Path, path: Path) -> None:
    """Give what was written at `part` the name `path`, once all of it is on the disk itself.

    Without that, a power cut can leave the name with nothing, or half of it, behind it.
    """
    for written in (part, *part.rglob("*")):
        _fsync(written)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    part.replace(path)
    _fsync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt":  # it can do so only with files that are open for writing
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        # Some network disks have no such request for folders; of a file, an error is an error.
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def replacing_contents(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out`; on success what it holds moves into `out`.

    Files and folders of the same names are replaced, never written into (they may be read-only
    links into a cache); whatever else is in `out` stays. On an error `out` stays as it was.
    """
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        out.mkdir(exist_ok=True)
        for piece in sorted(part.iterdir()):
            target = out / piece.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            piece.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
