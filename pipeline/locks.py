"""Locks held by one process at a time; the system releases them when that process ends."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

RETRAIN_LOCK = Path(".work/retrain.lock")
"""The lock file of a retraining, below the project's folder."""


class LockedError(ValueError):
    """Another process holds the lock."""


def lock(file: IO[Any]) -> None:
    """Lock an open file until it is closed; do not wait for another process.

    A process that is killed keeps no lock. A forked child shares the lock; a child that runs
    another program does not.

    Raises:
        LockedError: if another process holds the lock, or this one holds it by another open file.
        OSError: if the disk does not support locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockedError(f"another process holds {file.name}") from None


@contextmanager
def exclusive(path: Path, refusal: Callable[[str], str], holder: str = "") -> Iterator[None]:
    """Hold a lock file for the length of the block; the file is not deleted on release.

    Args:
        path: the lock file; its folder is made if it is missing.
        refusal: makes the error's message from the holder's name, such as `process 12`.
        holder: the name of this holder, which the file keeps beside the process's number.

    Raises:
        LockedError: if another process holds the file.
        OSError: if the disk does not support locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            lock(file)
        except LockedError:
            file.seek(0)
            raise LockedError(refusal(file.read().strip() or "another process")) from None
        file.truncate(0)
        file.write(", ".join(filter(None, (holder, f"process {os.getpid()}"))))
        file.flush()
        yield


def lock_workspace(holder: str, folder: Path) -> AbstractContextManager[None]:
    """Hold a project's folder for one retraining.

    DVC locks a folder for a stage only: two retrainings would take turns, stage by stage.

    Args:
        holder: the name of this retraining, for the message of the next one.
        folder: the project's folder.

    Raises:
        LockedError: if another retraining holds the folder; the message names it.
    """

    def refusal(other: str) -> str:
        return (
            f"a retraining is already running in this folder ({other}), and two would mix their"
            " outputs: wait for it or cancel it"
        )

    return exclusive(folder / RETRAIN_LOCK, refusal, holder)
