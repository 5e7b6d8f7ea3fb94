"""A file in download, which keeps its received bytes when the download is interrupted."""

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pipeline.disk import DISK_FULL_ERRNOS
from pipeline.formatting import format_bytes
from pipeline.locks import LockedError, lock
from segformer.atomic import commit

_CHUNK = 1 << 20
# Not `.part` alone: `segformer.atomic` writes to that suffix, and deletes existing files.
_PART_SUFFIX = ".download.part"
_QUARANTINE_SUFFIX = ".bad"
_LEFTOVER_KINDS = {
    _PART_SUFFIX: "an interrupted download; the next one resumes it, or delete it",
    _QUARANTINE_SUFFIX: "a download with the wrong content, which is never used; delete it",
    ".part": "unfinished output of a killed stage; delete it unless a stage is running",
}


def partial_path(target: Path) -> Path:
    """The path of the received bytes until the file is complete."""
    return target.with_name(target.name + _PART_SUFFIX)


def find_leftovers(folder: Path) -> list[str]:
    """The leftovers of interrupted stages below a folder: a message each, with size and remedy."""
    return [
        f"{path}, {format_bytes(_total_bytes(path))}: {_leftover_advice(path.name)}"
        for path in sorted(_find_unfinished(folder))
    ]


def _find_unfinished(folder: Path) -> Iterator[Path]:
    """Leftover files and folders, none below another."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files) if _leftover_advice(name))
        folders[:] = [name for name in folders if not _leftover_advice(name)]


def _leftover_advice(name: str) -> str | None:
    matches = (advice for suffix, advice in _LEFTOVER_KINDS.items() if name.endswith(suffix))
    return next(matches, None)


def _total_bytes(path: Path) -> int:
    files = (file for file in (path, *path.rglob("*")) if not file.is_dir())
    return sum(file.lstat().st_size for file in files)


class PartialFile:
    """The received bytes of `target`, open for appending; `target` appears when it is complete.

    Use as a context manager. Leaving it keeps the bytes for the next download. Bytes of an earlier
    download are read for the md5 sum only when it is needed: at `md5` or `append`.

    Attributes:
        size: received bytes.

    Args:
        target: the path of the complete file.
        folder: where partial and quarantined files are kept: on the disk of `target`, but not
            below an output of DVC, which would cache them too. None: beside `target`.

    Raises:
        LockedError: if another process is writing the file.
        ValueError: if the disk does not support locks.
    """

    def __init__(self, target: Path, folder: Path | None = None) -> None:
        self.target = target
        self.part = partial_path((folder or target.parent) / target.name)
        self._file = _open_exclusively(self.part)
        self.size = os.fstat(self._file.fileno()).st_size

    @cached_property
    def _digest(self) -> "hashlib._Hash":
        """The md5 of the received bytes."""
        digest = hashlib.md5(usedforsecurity=False)
        self._file.seek(0)
        remaining = self.size
        while remaining and (chunk := self._file.read(min(remaining, _CHUNK))):
            digest.update(chunk)
            remaining -= len(chunk)
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Before closing, which releases the lock: another process could then own the file.
        if self.size == 0 and _is_same_file(self.part, self._file):
            self.part.unlink()
        self._file.close()

    @property
    def md5(self) -> str:
        """The md5 sum of all received bytes, 32 hex digits."""
        return self._digest.hexdigest()

    def append(self, piece: bytes) -> None:
        """Append received bytes.

        Raises:
            ValueError: if the disk is full.
        """
        remaining, digest = memoryview(piece), self._digest
        try:
            while remaining:
                num_written = self._file.write(remaining)
                digest.update(remaining[:num_written])
                self.size += num_written
                remaining = remaining[num_written:]
        except OSError as error:
            if error.errno not in DISK_FULL_ERRNOS:
                raise
            raise ValueError(
                f"download: the disk is full ({os.strerror(error.errno)}):"
                f" {format_bytes(self.size)} of {self.target.name} were received and stay in"
                f" {self.part}; free some space, and run the same command to resume"
            ) from None

    def restart(self) -> None:
        """Discard the received bytes."""
        self._file.truncate(0)
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def finalize(self) -> None:
        """Move the complete file to `target`; an existing file is replaced, never written into."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        commit(self.part, self.target)

    def quarantine(self) -> Path:
        """Move a file with the wrong content to a name that is never used; return the path."""
        return self.part.replace(self.part.with_name(self.target.name + _QUARANTINE_SUFFIX))


def _open_exclusively(part: Path) -> IO[bytes]:
    """Open a file for appending and lock it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = part.open("a+b", buffering=0)
        try:
            lock(file)
        except LockedError:
            file.close()
            raise LockedError(
                f"download: another process is writing {part}: wait for it, or end it"
            ) from None
        except OSError as error:
            file.close()
            raise ValueError(
                f"download: {part} cannot be locked ({error.strerror}), and a second download could"
                " overwrite it: put data/download on a disk that supports locks"
            ) from None
        if _is_same_file(part, file):
            return file
        file.close()  # its last owner renamed it between opening and locking


def _is_same_file(path: Path, file: IO[bytes]) -> bool:
    """Whether a path is the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
