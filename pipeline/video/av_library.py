"""The one import of PyAV, which holds FFmpeg, and what turns FFmpeg's errors into ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.disk import DISK_FULL_ERRNOS

if TYPE_CHECKING:
    from av.container import InputContainer


def load_av() -> Any:
    """Import PyAV and return its module.

    Raises:
        ValueError: if it is not installed.
    """
    os.environ.setdefault("SVT_LOG", "1")  # errors only: else the AV1 encoder writes a dozen lines
    try:
        import av
    except ModuleNotFoundError:
        raise ValueError(
            "films need PyAV: pip install 'segformer-cityscapes[video]', or '.[video]' in a clone"
        ) from None
    return av


def open_container(path: Path) -> "InputContainer":
    """Open a film for reading.

    Raises:
        ValueError: if FFmpeg does not know its format.
    """
    av = load_av()
    try:
        # With a protocol in front, no part of a file's name is taken for one.
        container: InputContainer = av.open(f"file:{path.absolute()}", metadata_errors="replace")
    except av.FFmpegError as error:
        reason = error.strerror or "no reason given"
        raise ValueError(
            f"{path}: not a film that FFmpeg can open ({reason}); if it was cut off, its index is"
            " missing: get the file again"
        ) from None
    return container


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise FFmpeg's errors of a full disk as the OSError that Python itself would raise."""
    try:
        yield
    except load_av().FFmpegError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise OSError(error.errno, os.strerror(error.errno)) from None
        raise
