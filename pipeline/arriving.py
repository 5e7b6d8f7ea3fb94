"""A file that arrives piece by piece, and of which nothing is lost when that is interrupted."""

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pipeline.disk import FULL
from pipeline.meter import in_words
from segformer.atomic import put_in_place

_CHUNK = 1 << 20
# Not `.part` alone: that is where `segformer.atomic` writes, and clears away what it finds.
_PART = ".download.part"
_BAD = ".bad"
_LEFT_OVER = {
    _PART: "a download that was cut short; the next one goes on there, or delete it",
    _BAD: "arrived, but is not what it should be, and is never used; delete it",
    ".part": "half a file of a stage that was killed; delete it unless one is running",
}


def part_of(target: Path) -> Path:
    """Where the pieces gather until they are the whole."""
    return target.with_name(target.name + _PART)


def left_over(folder: Path) -> list[str]:
    """What interrupted downloads left below a folder: a sentence each, with size and remedy."""
    return [
        f"{path}, {in_words(path.stat().st_size)}: {remedy}"
        for path in sorted(folder.rglob("*"))
        for remedy in [words for end, words in _LEFT_OVER.items() if path.name.endswith(end)][:1]
        if path.is_file()
    ]


class Arriving:
    """The pieces of `target` that have arrived, open for more; its name appears when it is whole.

    Use as a context manager. Leaving it keeps the pieces, for the next time.

    Args:
        target: where the whole file goes; what is here of it from before is read, for its sum.

    Raises:
        ValueError: if another process is writing them, or they cannot be opened.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.part = part_of(target)
        self._file = _opened_alone(self.part)
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0
        there = os.fstat(self._file.fileno()).st_size
        self._file.seek(0)
        while self.size < there and (chunk := self._file.read(_CHUNK)):
            self._digest.update(chunk)
            self.size += len(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Before it is closed, and with it the lock: then it may be another's already.
        if self.size == 0 and _names(self.part, self._file):
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
        left = memoryview(piece)
        try:
            while left:
                written = self._file.write(left)
                self._digest.update(left[:written])
                self.size += written
                left = left[written:]
        except OSError as mistake:
            if mistake.errno not in FULL:
                raise
            raise ValueError(
                f"download: no room is left for {self.target.name}"
                f" ({os.strerror(mistake.errno)}): {in_words(self.size)} have arrived and stay in"
                f" {self.part}; make room and repeat, it goes on from there"
            ) from None

    def start_over(self) -> None:
        """Throw away what has arrived."""
        self._file.truncate(0)
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def accept(self) -> None:
        """Give the whole file its name; what was there is replaced, never written into."""
        put_in_place(self.part, self.target)

    def set_aside(self) -> Path:
        """Put a file that is not what it should be where nothing takes it for the right one."""
        return self.part.replace(self.target.with_name(self.target.name + _BAD))


def _opened_alone(part: Path) -> IO[bytes]:
    """A file open for more, which no other process has open so."""
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = part.open("a+b", buffering=0)
        try:
            # Held until the process ends, however it ends: one killed a while ago holds nothing.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ValueError(
                f"download: another process is writing {part}: wait for it, or end it"
            ) from None
        except OSError as mistake:
            file.close()
            raise ValueError(
                f"download: {part} cannot be locked ({mistake.strerror}), so that a second download"
                " could spoil it: put data/download on a disk that knows locks"
            ) from None
        if _names(part, file):
            return file
        file.close()  # whoever had it gave it another name after it was opened here


def _names(path: Path, file: IO[bytes]) -> bool:
    """Whether a path leads to the very file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
