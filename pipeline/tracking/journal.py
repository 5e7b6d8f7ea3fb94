"""What MLflow should be told of a run, written beside the project before it is sent anywhere."""

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.locks import LockedError, lock
from segformer.atomic import write_text

_LINES = "lines.jsonl"
_POSITION = "sent.json"
_FILES = "files"


@dataclass(frozen=True)
class Line:
    """One thing to tell.

    Attributes:
        kind: what it is, such as `metrics`.
        content: what is to be told; `time` is when, in milliseconds since 1970.
        start: where the line begins in the file, in bytes.
        end: where the next one begins.
    """

    kind: str
    content: dict[str, Any]
    start: int
    end: int


class Journal:
    """A folder with lines, copies of the files they speak of, and how much of it was sent.

    It is held by the process that writes it, and goes once all of it has been sent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None
        self._write_lock = threading.Lock()  # the lines come from two threads
        self._num_files = 0

    @classmethod
    def create(cls, root: Path, name: str) -> "Journal":
        """Begin a journal, in a folder whose name begins with the time."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        journal = cls(root / f"{now}-{name}-{os.getpid()}")
        journal.folder.mkdir(parents=True)
        # Held before it can be seen: whoever looks at journals would find it free, and empty.
        part = journal.folder / f"{_LINES}.part"
        journal._file = part.open("ab", buffering=0)
        lock(journal._file)
        part.rename(journal.folder / _LINES)
        return journal

    def try_lock(self) -> bool:
        """Keep other processes away; whether none has it, and it is there still."""
        try:
            # Not made anew: another process may be about to drop it.
            opened = os.open(self.folder / _LINES, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return False
        file = os.fdopen(opened, "ab", buffering=0)
        try:
            lock(file)
        except LockedError:
            file.close()
            return False
        self._file = file
        if not self.exists:  # dropped between opening and locking
            self.close()
        return self._file is not None

    @property
    def exists(self) -> bool:
        """Whether nobody has dropped it."""
        return (self.folder / _LINES).exists()

    def close(self) -> None:
        """Let others have it."""
        with self._write_lock:
            if self._file:
                self._file.close()
            self._file = None

    def append(self, kind: str, **content: Any) -> None:
        """Write one line, whole: a process killed later cannot take it back.

        Raises:
            OSError: if it could not be, or only a part of it; no other may follow then.
        """
        content = {"kind": kind, "time": time.time_ns() // 1_000_000, **content}
        with self._write_lock:
            if self._file:
                text = json.dumps(content).encode() + b"\n"
                # On a disk that is nearly full a part is written, and no error raised.
                if self._file.write(text) != len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def copy_in(self, path: Path) -> str:
        """Copy a file or folder, because the next run will replace it; return the copy's name."""
        self._num_files += 1
        copy = self.folder / _FILES / str(self._num_files) / path.name
        copy.parent.mkdir(parents=True)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
        return copy.relative_to(self.folder).as_posix()

    def lines(self, start: int = 0) -> Iterator[Line]:
        """Read the lines from a place in the file on; one that was torn by a crash is left out."""
        with (self.folder / _LINES).open("rb") as file:
            file.seek(start)
            for text in file:
                end = start + len(text)
                if text.endswith(b"\n") and (content := _parse_line(text)):
                    yield Line(content.pop("kind"), content, start, end)
                start = end

    def header(self) -> dict[str, Any]:
        """What its first line tells: of which run it is; nothing if another process dropped it."""
        with suppress(OSError):
            if line := next(self.lines(), None):
                return line.content
        return {}

    def load_position(self) -> "Position":
        """How much has been sent."""
        path = self.folder / _POSITION
        return Position(**json.loads(path.read_text())) if path.exists() else Position()

    def save_position(self, position: "Position") -> None:
        """Note how much has been sent."""
        write_text(self.folder / _POSITION, json.dumps(vars(position)))

    def remove(self) -> None:
        """Drop it, as far as the disk lets us: all of it has been sent."""
        # First what makes it a journal: without its copies it must not be sent again. It is held
        # until the end, so that nobody else begins to send it.
        with suppress(OSError):
            (self.folder / _LINES).unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        self.close()


@dataclass(frozen=True)
class Position:
    """How much of a journal has been sent.

    Attributes:
        run_id: MLflow's id of the run, once it is known.
        until: bytes of the lines that have had their turn.
        left: where lines begin that had their turn in vain.
    """

    run_id: str | None = None
    until: int = 0
    left: tuple[int, ...] | list[int] = ()


def list_journals(root: Path) -> list[Journal]:
    """All journals in a place, the oldest first."""
    return [Journal(path.parent) for path in sorted(root.glob(f"*/{_LINES}"))]


def list_pending_runs(root: Path) -> set[str]:
    """The keys of runs with something still to be sent, in journals that nobody writes any more."""
    free = [journal for journal in list_journals(root) if journal.try_lock()]
    for journal in free:
        journal.close()
    return {str(journal.header().get("key", journal.folder.name)) for journal in free}


def _parse_line(text: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) and "kind" in content else None
