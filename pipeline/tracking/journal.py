"""A journal of one run on disk: what MLflow gets, written before it is uploaded."""

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
    """One entry of a journal.

    Attributes:
        kind: of the entry, such as `metrics`.
        content: its values; `time` is in milliseconds since 1970.
        start: offset of the line in the file, in bytes.
        end: offset of the next line.
    """

    kind: str
    content: dict[str, Any]
    start: int
    end: int


@dataclass(frozen=True)
class Position:
    """How much of a journal has been uploaded.

    Attributes:
        run_id: MLflow's id of the run; None until it is known.
        until: offset in bytes; all lines before it were tried.
        left: offsets of the lines that were tried and failed.
    """

    run_id: str | None = None
    until: int = 0
    left: tuple[int, ...] | list[int] = ()


class Journal:
    """A folder with lines, copies of the files that they name, and the upload position.

    The process that writes it holds its lock; it is removed once all of it has been uploaded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None
        self._write_lock = threading.Lock()  # two threads write lines
        self._num_files = 0

    @classmethod
    def create(cls, root: Path, name: str) -> "Journal":
        """Create a locked journal, in a folder of `root` whose name begins with the time."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        journal = cls(root / f"{now}-{name}-{os.getpid()}")
        journal.folder.mkdir(parents=True)
        # Locked before it is visible: otherwise `list_journals` would find it empty and unlocked.
        part = journal.folder / f"{_LINES}.part"
        journal._file = part.open("ab", buffering=0)
        lock(journal._file)
        part.rename(journal.folder / _LINES)
        return journal

    def try_lock(self) -> bool:
        """Lock the journal; False if another process holds it, or it was removed."""
        try:
            # Without O_CREAT: another process may be about to remove it.
            descriptor = os.open(self.folder / _LINES, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return False
        file = os.fdopen(descriptor, "ab", buffering=0)
        try:
            lock(file)
        except LockedError:
            file.close()
            return False
        self._file = file
        if not self.exists:  # removed between opening and locking
            self.close()
        return self._file is not None

    @property
    def exists(self) -> bool:
        """Whether no process has removed it."""
        return (self.folder / _LINES).exists()

    def close(self) -> None:
        """Release the lock."""
        with self._write_lock:
            if self._file:
                self._file.close()
            self._file = None

    def append(self, kind: str, **content: Any) -> None:
        """Write one line at once, so that it survives the process.

        Raises:
            OSError: if the line could not be written whole; append no further lines then.
        """
        content = {"kind": kind, "time": time.time_ns() // 1_000_000, **content}
        with self._write_lock:
            if self._file:
                text = json.dumps(content).encode() + b"\n"
                # On a disk that is nearly full, a part is written without an error.
                if self._file.write(text) != len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def copy_in(self, path: Path) -> str:
        """Copy a file or folder, which the next run replaces; return the copy's name."""
        self._num_files += 1
        copy = self.folder / _FILES / str(self._num_files) / path.name
        copy.parent.mkdir(parents=True)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
        return copy.relative_to(self.folder).as_posix()

    def lines(self, start: int = 0) -> Iterator[Line]:
        """Read the lines from an offset on; a line torn by a crash is skipped."""
        with (self.folder / _LINES).open("rb") as file:
            file.seek(start)
            for text in file:
                end = start + len(text)
                if text.endswith(b"\n") and (content := _parse_line(text)):
                    yield Line(content.pop("kind"), content, start, end)
                start = end

    def header(self) -> dict[str, Any]:
        """The content of the first line, which describes the run; empty if there is none."""
        with suppress(OSError):  # another process has removed the journal
            if line := next(self.lines(), None):
                return line.content
        return {}

    def load_position(self) -> Position:
        """Read the upload position."""
        path = self.folder / _POSITION
        return Position(**json.loads(path.read_text())) if path.exists() else Position()

    def save_position(self, position: Position) -> None:
        """Write the upload position."""
        write_text(self.folder / _POSITION, json.dumps(vars(position)))

    def remove(self) -> None:
        """Remove a journal that has been uploaded, as far as the disk allows."""
        # The lines first: without its copies a journal must not be uploaded again. It stays locked
        # until the end, so that no other process begins to upload it.
        with suppress(OSError):
            (self.folder / _LINES).unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        self.close()


def list_journals(root: Path) -> list[Journal]:
    """Return all journals below a folder, the oldest first."""
    return [Journal(path.parent) for path in sorted(root.glob(f"*/{_LINES}"))]


def list_pending_runs(root: Path) -> set[str]:
    """Return the keys of the runs that wait for upload, in journals that no process holds."""
    pending = [journal for journal in list_journals(root) if journal.try_lock()]
    for journal in pending:
        journal.close()
    return {str(journal.header().get("key", journal.folder.name)) for journal in pending}


def _parse_line(text: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) and "kind" in content else None
