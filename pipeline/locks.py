"""One retraining at a time in a project's folder, whoever starts it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_PATH = Path(".work/retrain.lock")


class LockedError(ValueError):
    """Another retraining is at work in this folder; the message names it."""


@contextmanager
def lock_workspace(owner: str, folder: Path) -> Iterator[None]:
    """Hold the folder; the lock goes with the process, however that ends.

    DVC locks a folder for a stage only: two retrainings would take turns, stage by stage.

    Args:
        owner: who holds it, as the next one is told.
        folder: of the project.

    Raises:
        Taken: if another one holds it.
    """
    path = folder / LOCK_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise LockedError(
                f"a retraining is at work here ({holder}), and two would mix: wait for it or"
                " cancel it"
            ) from None
        lock.truncate(0)
        lock.write(f"{owner}, process {os.getpid()}")
        lock.flush()
        yield
