"""Disk space, checked before work begins, and files linked where possible instead of copied."""

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.formatting import format_bytes
from segformer.atomic import replacing

_FICLONE = 0x40049409
"""Linux's ioctl for a file that shares another file's blocks until one of them is changed."""

_DEFAULT_REMEDY = "put the folder on a larger disk"

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a write that finds no more room: no space, no quota, a file too large."""


def require_space(
    folder: Path, num_bytes: int, *, label: str, remedy: str = _DEFAULT_REMEDY
) -> None:
    """Check that `num_bytes` bytes are free on the disk of `folder`.

    Args:
        folder: where they will be written.
        num_bytes: bytes.
        label: the start of the message: the stage, and what it writes.
        remedy: the alternative to freeing space, for the message.

    Raises:
        ValueError: if they are not; with the number of bytes to free.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ValueError(
            f"{label}: {format_bytes(num_bytes)} more are needed in {folder.resolve()}, but only"
            f" {format_bytes(free)} are free: free {format_bytes(num_bytes - free)}, or {remedy};"
            " nothing was lost, run the same command to resume"
        )


@contextmanager
def explain_disk_full(folder: Path, *, label: str, remedy: str = _DEFAULT_REMEDY) -> Iterator[None]:
    """Turn the OSError of a full disk into a message that names the stage and a remedy.

    Args:
        folder: where the block writes, whole or not at all.
        label: the start of the message: the stage.
        remedy: the alternative to freeing space, for the message.

    Raises:
        ValueError: in place of an OSError whose errno is in DISK_FULL_ERRNOS.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise ValueError(
            f"{label}: the disk under {folder.resolve()} is full ({error.strerror}); nothing was"
            f" kept: free some space, or {remedy}, and repeat"
        ) from None


def link_or_copy(source: Path, target: Path, *, label: str) -> str:
    """Give `target` the content of `source`, without a second copy where the disk supports that.

    An existing `target` is replaced, never written into.

    Returns:
        The method: `shared blocks` (a reflink), `hard link`, or `copy`.

    Raises:
        ValueError: if the file has to be copied and there is no room.
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
    """Whether `folder` can hold a hard link to a file: same disk, and owned by this user.

    DVC makes files in its cache read-only, which only their owner may do.
    """
    status = source.stat()
    return status.st_uid == os.geteuid() and status.st_dev == folder.stat().st_dev


def _reflink(source: Path, part: Path) -> bool:
    """Share blocks, where the file system can (btrfs, XFS): best, as the files stay separate."""
    if sys.platform != "linux":
        return False
    try:
        with source.open("rb") as original, part.open("wb") as clone:
            fcntl.ioctl(clone.fileno(), _FICLONE, original.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        return False
    return True


def _hard_link(source: Path, part: Path) -> bool:
    """Link the same file under a second name, where permitted and supported."""
    try:
        if not can_hard_link(source, part.parent):
            return False
        part.hardlink_to(source)
    except OSError:
        return False
    return True
