"""A file that arrives piece by piece, and of which nothing is lost when that is interrupted."""

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.disk import FULL
from pipeline.meter import in_words

_CHUNK = 1 << 20
"""No room on the disk, none left of one's share, none for a file of this size."""


def part_of(target: Path) -> Path:
    """Where the pieces gather until they are the whole.

    Not `.part` alone: that is where `segformer.atomic` writes, and clears away what it finds.
    """
    return target.with_name(target.name + ".download.part")


class Arriving:
    """The pieces of `target` that have arrived, open for more; its name appears when it is whole.

    Use as a context manager. Leaving it keeps the pieces, for the next time.

    Args:
        target: where the whole file goes; what is here of it from before is read, for its sum.

    Raises:
        ValueError: if another process is writing them.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.part = part_of(target)
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.part.open("a+b", buffering=0)
        try:
            # Held until the process ends, however it ends: one killed a while ago holds nothing.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ValueError(
                f"download: another process is writing {self.part}: wait for it, or end it"
            ) from None
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
        self._file.close()
        if self.size == 0:
            self.part.unlink(missing_ok=True)

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
        self.part.replace(self.target)

    def set_aside(self) -> Path:
        """Put a file that is not what it should be where nothing takes it for the right one."""
        return self.part.replace(self.target.with_name(self.target.name + ".bad"))
