"""The folder of a training in progress: what it is a training of, its run, and its states."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.locks import exclusive
from segformer import distributed
from segformer.atomic import write_text
from segformer.training.snapshots import Snapshots
from segformer.training.state import TrainingState

INPUTS_FILE = "ingredients.json"
"""Everything that determines the training, by name."""

RUN_FILE = "run"
"""The run that remembers this training; there before its first step."""

_DONE_SUFFIX = ".done"
_MAX_INPUTS_LISTED = 5  # ingredients that differ
_MAX_VALUE_LENGTH = 40  # letters; a digest tells a person nothing
_logger = logging.getLogger(__name__)

FingerprintInputs = Mapping[str, str]


class ResumeFolder:
    """`<work>/<name>-<fingerprint>`; the fingerprint is the digest of all ingredients.

    Args:
        work: the folder of all trainings in progress.
        name: of the arm, `ce-0`.
        inputs: everything that determines the bytes the training ends with.
    """

    def __init__(self, work: Path, name: str, inputs: FingerprintInputs) -> None:
        self.fingerprint = _fingerprint(inputs)
        self.path = work / f"{name}-{self.fingerprint}"
        self.snapshots = Snapshots(self.path)
        self._name = name
        self._inputs = inputs

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process at a time; it is removed when the training is done.

        Raises:
            LockedError: if another process holds it.
        """
        for leftover in self._find_siblings(_DONE_SUFFIX):
            shutil.rmtree(leftover, ignore_errors=True)
        with exclusive(self.path / "lock", self._refusal):
            write_text(self.path / INPUTS_FILE, json.dumps(dict(self._inputs), indent=2))
            for sentence in self.list_other_unfinished():
                _logger.warning(sentence)
            yield

    def _refusal(self, holder: str) -> str:
        return (
            f"{self._name} is being trained by {holder}, perhaps left over from a killed "
            "`dvc repro`; wait for it or end it"
        )

    def load_latest(self) -> dict[str, Any] | None:
        """Read the newest state that is whole, if there is one; only the first process has any."""
        return self.snapshots.load_newest() if distributed.is_main() else None

    def save(self, state: TrainingState) -> None:
        """Save a state; a disk that is full costs this state, and not the training."""
        content = state.state_dict()
        if not distributed.is_main():
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
        done = self.path.with_name(self.path.name + _DONE_SUFFIX)
        self.path.rename(done)
        shutil.rmtree(done, ignore_errors=True)

    def read_run_key(self) -> str | None:
        """The run in which this training was begun, by the name that tracking gave it."""
        path = self.path / RUN_FILE
        return path.read_text() if path.exists() else None

    def record_run(self, key: str) -> None:
        """Write down in which run this training is remembered."""
        write_text(self.path / RUN_FILE, key)

    def list_other_unfinished(self) -> list[str]:
        """A sentence for each unfinished training of this name that has other ingredients."""
        others = sorted(set(self._find_siblings()) - {self.path})
        return [self._describe_other(other) for other in others if Snapshots(other).steps()]

    def _find_siblings(self, suffix: str = "") -> Iterator[Path]:
        return self.path.parent.glob(f"{self._name}-{'?' * len(self.fingerprint)}{suffix}")

    def _describe_other(self, other: Path) -> str:
        return (
            f"{other} is left as it is, at step {Snapshots(other).steps()[-1]}: another training, "
            f"which differs in {self._describe_difference(other / INPUTS_FILE)}; "
            "delete it unless you want to go back to it"
        )

    def _describe_difference(self, path: Path) -> str:
        try:
            theirs: dict[str, str] = json.loads(path.read_text())
        except (OSError, ValueError):
            return f"what is unknown, as {path.name} there cannot be read"
        names = sorted(theirs.keys() | self._inputs.keys())
        different = [name for name in names if theirs.get(name) != self._inputs.get(name)]
        shown = [self._describe_change(theirs, name) for name in different[:_MAX_INPUTS_LISTED]]
        more = (
            f" and {len(different) - _MAX_INPUTS_LISTED} more"
            if len(different) > _MAX_INPUTS_LISTED
            else ""
        )
        return f"{', '.join(shown)}{more}"

    def _describe_change(self, other: FingerprintInputs, name: str) -> str:
        then, now = (side.get(name, "nothing") for side in (other, self._inputs))
        is_digest = len(now) > _MAX_VALUE_LENGTH or len(then) > _MAX_VALUE_LENGTH
        return name if is_digest else f"{name} ({then} there, {now} here)"


def _fingerprint(inputs: FingerprintInputs) -> str:
    text = json.dumps(dict(inputs), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
