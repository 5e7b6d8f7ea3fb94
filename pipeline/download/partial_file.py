"""A file that arrives piece by piece, and of which nothing is lost when that is interrupted."""

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
# Not `.part` alone: that is where `segformer.atomic` writes, and clears away what it finds.
_PART_SUFFIX = ".download.part"
_QUARANTINE_SUFFIX = ".bad"
_LEFTOVER_KINDS = {
    _PART_SUFFIX: "a download that was cut short; the next one goes on there, or delete it",
    _QUARANTINE_SUFFIX: "arrived, but is not what it should be, and is never used; delete it",
    ".part": "what a stage that was killed had begun; delete it unless one is running",
}


def partial_path(target: Path) -> Path:
    """Where the pieces gather until they are the whole."""
    return target.with_name(target.name + _PART_SUFFIX)


def find_leftovers(folder: Path) -> list[str]:
    """What interrupted stages left below a folder: a sentence each, with size and remedy."""
    return [
        f"{path}, {format_bytes(_total_bytes(path))}: {_leftover_advice(path.name)}"
        for path in sorted(_find_unfinished(folder))
    ]


def _find_unfinished(folder: Path) -> Iterator[Path]:
    """Files and folders that are left over, none below another."""
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *files) if _leftover_advice(name))
        folders[:] = [name for name in folders if not _leftover_advice(name)]


def _leftover_advice(name: str) -> str | None:
    return next((words for end, words in _LEFTOVER_KINDS.items() if name.endswith(end)), None)


def _total_bytes(path: Path) -> int:
    return sum(each.lstat().st_size for each in (path, *path.rglob("*")) if not each.is_dir())


class PartialFile:
    """The pieces of `target` that have arrived, open for more; its name appears when it is whole.

    Use as a context manager. Leaving it keeps the pieces, for the next time. What is here of them
    from before is read for its sum, but not before somebody asks for the sum or adds to it.

    Args:
        target: where the whole file goes.
        folder: where pieces gather, and what is bad is set aside: not below an output of DVC, which
            would keep them too; on the disk of `target`. None: beside it.

    Raises:
        ValueError: if another process is writing them, or they cannot be opened.
    """

    def __init__(self, target: Path, folder: Path | None = None) -> None:
        self.target = target
        self.part = partial_path((folder or target.parent) / target.name)
        self._file = _open_exclusively(self.part)
        self.size = os.fstat(self._file.fileno()).st_size

    @cached_property
    def _digest(self) -> "hashlib._Hash":
        """Of what is here."""
        digest = hashlib.md5(usedforsecurity=False)
        self._file.seek(0)
        left = self.size
        while left and (chunk := self._file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Before it is closed, and with it the lock: then it may be another's already.
        if self.size == 0 and _is_same_file(self.part, self._file):
            self.part.unlink()
        self._file.close()

    @property
    def md5(self) -> str:
        """Of all that has arrived, 32 hex digits."""
        return self._digest.hexdigest()

    def append(self, piece: bytes) -> None:
        """Write what comes next.

        Raises:
            ValueError: if the disk is full.
        """
        left, digest = memoryview(piece), self._digest
        try:
            while left:
                written = self._file.write(left)
                digest.update(left[:written])
                self.size += written
                left = left[written:]
        except OSError as mistake:
            if mistake.errno not in DISK_FULL_ERRNOS:
                raise
            raise ValueError(
                f"download: no room is left for {self.target.name}"
                f" ({os.strerror(mistake.errno)}): {format_bytes(self.size)} have arrived and stay in"
                f" {self.part}; make room and repeat, it goes on from there"
            ) from None

    def restart(self) -> None:
        """Throw away what has arrived."""
        self._file.truncate(0)
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def finalize(self) -> None:
        """Give the whole file its name; what was there is replaced, never written into."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        commit(self.part, self.target)

    def quarantine(self) -> Path:
        """Put a file that is not what it should be where nothing takes it for the right one."""
        return self.part.replace(self.part.with_name(self.target.name + _QUARANTINE_SUFFIX))


def _open_exclusively(part: Path) -> IO[bytes]:
    """A file open for more, which no other process has open so."""
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
        except OSError as mistake:
            file.close()
            raise ValueError(
                f"download: {part} cannot be locked ({mistake.strerror}), so that a second download"
                " could spoil it: put data/download on a disk that knows locks"
            ) from None
        if _is_same_file(part, file):
            return file
        file.close()  # whoever had it gave it another name after it was opened here


def _is_same_file(path: Path, file: IO[bytes]) -> bool:
    """Whether a path leads to the very file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
