"""Atomic writes: a file or folder appears whole or not at all, even after a power cut."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`.

    An existing `path` is replaced, never written into (it may be a read-only link into a cache).
    On an error the temporary path is removed and `path` is unchanged. Works for a file and for a
    folder; a missing parent folder is created.
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
    """Flush the file or folder `part` to the disk, then rename it to `path`.

    Without the flush, a power cut can leave `path` empty or incomplete.
    """
    for item in (part, *part.rglob("*")):
        _fsync(item)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    part.replace(path)
    _fsync(path.parent)


@contextmanager
def replacing_contents(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success its contents are moved into `folder`.

    Files and folders of the same names are replaced, never written into (they may be read-only
    links into a cache); all others in `folder` stay. On an error `folder` is unchanged.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        folder.mkdir(exist_ok=True)
        for item in sorted(part.iterdir()):
            target = folder / item.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            item.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _fsync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if os.name == "nt":  # Windows can flush only files that are open for writing
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        # Some network disks cannot flush folders; an error of a file is raised.
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
