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
