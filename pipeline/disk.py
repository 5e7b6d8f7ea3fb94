"""Room on the disk, asked for before work begins, and files taken over without doubling them."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.meter import in_words
from segformer.atomic import replacing

_FICLONE = 0x40049409
"""Linux's request for a second file that shares the first one's blocks until one is changed."""

_OR_ELSE = "put the folder on a larger disk"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What an OSError says where no more can be written: no space, no quota, too large a file."""


def demand_room(folder: Path, needed: int, *, whose: str, or_else: str = _OR_ELSE) -> None:
    """See that `needed` bytes are free where `folder` lies.

    Args:
        folder: where they are to be written.
        needed: bytes.
        whose: begins the message: which stage, and what it writes.
        or_else: what to do where no room can be made.

    Raises:
        ValueError: how much is missing, and for what.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{whose}: {in_words(needed)} more are needed in {folder.resolve()}, and only"
            f" {in_words(free)} are free there: make room for {in_words(needed - free)}, or"
            f" {or_else}; nothing was lost, the same command goes on"
        )


@contextmanager
def telling_if_full(folder: Path, *, whose: str, or_else: str = _OR_ELSE) -> Iterator[None]:
    """Say which stage ran out of room, and what to do, where a library only says that it did.

    Args:
        folder: where it writes, whole or not at all.
        whose: the stage.
        or_else: what to do where no room can be made.

    Raises:
        ValueError: instead of an OSError in FULL.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ValueError(
            f"{whose}: the disk under {folder.resolve()} is full ({error.strerror}); nothing was"
            f" kept: make room, or {or_else}, and repeat"
        ) from None


def take_over(source: Path, target: Path, *, whose: str) -> str:
    """Put the content of `source` at `target`: without a second copy where the disk can.

    Whatever is at `target` is replaced, never written into.

    Returns:
        How: `shared blocks` (a reflink), `hard link`, or `copy`.

    Raises:
        ValueError: if it has to be copied and there is no room.
    """
    source = source.resolve()
    with telling_if_full(target.parent, whose=whose), replacing(target) as part:
        if _reflink(source, part):
            return "shared blocks"
        if _hard_link(source, part):
            return "hard link"
        demand_room(target.parent, source.stat().st_size, whose=whose)
        shutil.copyfile(source, part)
        return "copy"


def may_link(source: Path, folder: Path) -> bool:
    """Whether a file can have a second name in `folder`: on the same disk, and one's own.

    DVC makes what it keeps read-only, and may do so only with files of one's own.
    """
    facts = source.stat()
    return facts.st_uid == os.geteuid() and facts.st_dev == folder.stat().st_dev


def _reflink(source: Path, part: Path) -> bool:
    """Share blocks, where the file system knows how (btrfs, XFS); the best link: each its own."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        with source.open("rb") as there, part.open("wb") as here:
            fcntl.ioctl(here.fileno(), _FICLONE, there.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        return False
    return True


def _hard_link(source: Path, part: Path) -> bool:
    """A second name for the same file, if it may have one and the file system knows how."""
    try:
        if not may_link(source, part.parent):
            return False
        part.hardlink_to(source)
    except OSError:
        return False
    return True
