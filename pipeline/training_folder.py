"""The folder of a training in progress: what it is a training of, its run, and its states."""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segformer import processes
from segformer.atomic import write_text
from segformer.snapshots import Snapshots
from segformer.training_state import TrainingState

INGREDIENTS = "ingredients.json"
"""Everything that determines the training, by name."""

RUN = "run"
"""The run that remembers this training; there before its first step."""

_DONE = ".done"
_SHOWN = 5  # ingredients that differ
_LONG = 40  # letters; a digest tells a person nothing
_logger = logging.getLogger(__name__)

Ingredients = Mapping[str, str]


class TrainingFolder:
    """`<work>/<name>-<fingerprint>`; the fingerprint is the digest of all ingredients.

    Args:
        work: the folder of all trainings in progress.
        name: of the arm, `ce-0`.
        ingredients: everything that determines the bytes the training ends with.
    """

    def __init__(self, work: Path, name: str, ingredients: Ingredients) -> None:
        self.fingerprint = _fingerprint(ingredients)
        self.path = work / f"{name}-{self.fingerprint}"
        self.snapshots = Snapshots(self.path)
        self._name = name
        self._ingredients = ingredients

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder for one process at a time; it is removed when the training is done.

        Raises:
            ValueError: if another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self._of_this_arm(_DONE):
            shutil.rmtree(leftover, ignore_errors=True)
        with (self.path / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise ValueError(
                    f"{self._name} is being trained by another process ({lock.read().strip()}), "
                    "perhaps left over from a killed `dvc repro`; wait for it or end it"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            write_text(self.path / INGREDIENTS, json.dumps(dict(self._ingredients), indent=2))
            for sentence in self.strangers():
                _logger.warning(sentence)
            yield

    def newest(self) -> dict[str, Any] | None:
        """Read the newest state that is whole, if there is one; only the first process has any."""
        return self.snapshots.newest() if processes.is_first() else None

    def keep(self, state: TrainingState) -> None:
        """Save a state; a disk that is full costs this state, and not the training."""
        content = state.state_dict()
        if not processes.is_first():
            return
        try:
            self.snapshots.write(content)
        except OSError as trouble:
            _logger.warning(
                f"the state of step {state.step} could not be saved ({trouble}); training goes on, "
                "and if it is interrupted, it starts again from an earlier state"
            )

    def remove(self) -> None:
        """Drop everything: the training is done."""
        # Under another name first: killed midway, half of it would look like a training.
        done = self.path.with_name(self.path.name + _DONE)
        self.path.rename(done)
        shutil.rmtree(done, ignore_errors=True)

    def run_key(self) -> str | None:
        """The run in which this training was begun, by the name that tracking gave it."""
        path = self.path / RUN
        return path.read_text() if path.exists() else None

    def note_run(self, key: str) -> None:
        """Write down in which run this training is remembered."""
        write_text(self.path / RUN, key)

    def strangers(self) -> list[str]:
        """A sentence for each unfinished training of this name that has other ingredients."""
        others = sorted(set(self._of_this_arm()) - {self.path})
        return [self._differs(other) for other in others if Snapshots(other).steps()]

    def _of_this_arm(self, ending: str = "") -> Iterator[Path]:
        return self.path.parent.glob(f"{self._name}-{'?' * len(self.fingerprint)}{ending}")

    def _differs(self, other: Path) -> str:
        return (
            f"{other} is left as it is, at step {Snapshots(other).steps()[-1]}: another training, "
            f"which differs in {self._difference(other / INGREDIENTS)}; "
            "delete it unless you want to go back to it"
        )

    def _difference(self, ingredients: Path) -> str:
        try:
            theirs: dict[str, str] = json.loads(ingredients.read_text())
        except (OSError, ValueError):
            return f"what is unknown, as {ingredients.name} there cannot be read"
        names = sorted(theirs.keys() | self._ingredients.keys())
        different = [name for name in names if theirs.get(name) != self._ingredients.get(name)]
        shown = [self._change(theirs, name) for name in different[:_SHOWN]]
        more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        return f"{', '.join(shown)}{more}"

    def _change(self, theirs: Ingredients, name: str) -> str:
        then, now = (side.get(name, "nothing") for side in (theirs, self._ingredients))
        is_digest = len(now) > _LONG or len(then) > _LONG
        return name if is_digest else f"{name} ({then} there, {now} here)"


def _fingerprint(ingredients: Ingredients) -> str:
    text = json.dumps(dict(ingredients), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
