"""Room on the disk, asked for before work begins, and files taken over without doubling them."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.formatting import format_bytes
from segformer.atomic import replacing

_FICLONE = 0x40049409
"""Linux's request for a second file that shares the first one's blocks until one is changed."""

_DEFAULT_REMEDY = "put the folder on a larger disk"

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What an OSError says where no more can be written: no space, no quota, too large a file."""


def require_space(
    folder: Path, num_bytes: int, *, label: str, remedy: str = _DEFAULT_REMEDY
) -> None:
    """See that `num_bytes` bytes are free where `folder` lies.

    Args:
        folder: where they are to be written.
        num_bytes: bytes.
        label: begins the message: which stage, and what it writes.
        remedy: what to do where no room can be made.

    Raises:
        ValueError: how much is missing, and for what.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ValueError(
            f"{label}: {format_bytes(num_bytes)} more are needed in {folder.resolve()}, and only"
            f" {format_bytes(free)} are free there: make room for {format_bytes(num_bytes - free)}, or"
            f" {remedy}; nothing was lost, the same command goes on"
        )


@contextmanager
def explain_disk_full(folder: Path, *, label: str, remedy: str = _DEFAULT_REMEDY) -> Iterator[None]:
    """Say which stage ran out of room, and what to do, where a library only says that it did.

    Args:
        folder: where it writes, whole or not at all.
        label: the stage.
        remedy: what to do where no room can be made.

    Raises:
        ValueError: instead of an OSError in FULL.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise ValueError(
            f"{label}: the disk under {folder.resolve()} is full ({error.strerror}); nothing was"
            f" kept: make room, or {remedy}, and repeat"
        ) from None


def link_or_copy(source: Path, target: Path, *, label: str) -> str:
    """Put the content of `source` at `target`: without a second copy where the disk can.

    Whatever is at `target` is replaced, never written into.

    Returns:
        How: `shared blocks` (a reflink), `hard link`, or `copy`.

    Raises:
        ValueError: if it has to be copied and there is no room.
    """
    source = source.resolve()
    with explain_disk_full(target.parent, label=label), replacing(target) as part:
        if _reflink(source, part):
            return "shared blocks"
        if _hard_link(source, part):
            return "hard link"
        require_space(target.parent, source.stat().st_size, label=label)
        shutil.copyfile(source, part)
        return "copy"


def can_hard_link(source: Path, folder: Path) -> bool:
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
        if not can_hard_link(source, part.parent):
            return False
        part.hardlink_to(source)
    except OSError:
        return False
    return True
