"""The folder of an unfinished training: its fingerprint, its run, and its saved states."""

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
"""The key of the run that tracks this training; written before the first step."""

_DONE_SUFFIX = ".done"
_MAX_INPUTS_LISTED = 5
_MAX_VALUE_LENGTH = 40  # characters; longer values are digests, which are not printed
_logger = logging.getLogger(__name__)

FingerprintInputs = Mapping[str, str]


class ResumeFolder:
    """The folder `<work>/<name>-<fingerprint>`; the fingerprint is the digest of all inputs.

    Args:
        work: the folder of all unfinished trainings.
        name: the name of the arm, `ce-0`.
        inputs: everything that determines the bytes of the trained model, by name.
    """

    def __init__(self, work: Path, name: str, inputs: FingerprintInputs) -> None:
        self.fingerprint = _fingerprint(inputs)
        self.path = work / f"{name}-{self.fingerprint}"
        self.snapshots = Snapshots(self.path)
        self._name = name
        self._inputs = inputs

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this process, and warn of unfinished trainings with other inputs.

        Raises:
            LockedError: if another process holds it.
        """
        for leftover in self._find_siblings(_DONE_SUFFIX):
            shutil.rmtree(leftover, ignore_errors=True)
        with exclusive(self.path / "lock", self._refusal):
            write_text(self.path / INPUTS_FILE, json.dumps(dict(self._inputs), indent=2))
            for message in self.list_other_unfinished():
                _logger.warning(message)
            yield

    def _refusal(self, holder: str) -> str:
        return (
            f"{self._name} is being trained by {holder}, perhaps left over from a killed "
            "`dvc repro`; wait for it or end it"
        )

    def load_latest(self) -> dict[str, Any] | None:
        """Load the newest undamaged state, if there is one; None in all but the main process."""
        return self.snapshots.load_newest() if distributed.is_main() else None

    def save(self, state: TrainingState) -> None:
        """Save a state; if that fails, say on a full disk, warn and go on training."""
        content = state.state_dict()
        if not distributed.is_main():
            return
        try:
            self.snapshots.write(content)
        except OSError as error:
            _logger.warning(
                f"the state of step {state.step} could not be saved ({error}); training continues,"
                " but would resume from an earlier state"
            )

    def remove(self) -> None:
        """Delete the folder of a finished training."""
        # Renamed first: a partly deleted folder would look like an unfinished training.
        done = self.path.with_name(self.path.name + _DONE_SUFFIX)
        self.path.rename(done)
        shutil.rmtree(done, ignore_errors=True)

    def read_run_key(self) -> str | None:
        """Read the tracking key of the run in which this training began; None if there is none."""
        path = self.path / RUN_FILE
        return path.read_text() if path.exists() else None

    def record_run(self, key: str) -> None:
        """Record the tracking key of this training's run."""
        write_text(self.path / RUN_FILE, key)

    def list_other_unfinished(self) -> list[str]:
        """Describe each unfinished training of this name that has other inputs."""
        others = sorted(set(self._find_siblings()) - {self.path})
        return [self._describe_other(other) for other in others if Snapshots(other).steps()]

    def _find_siblings(self, suffix: str = "") -> Iterator[Path]:
        return self.path.parent.glob(f"{self._name}-{'?' * len(self.fingerprint)}{suffix}")

    def _describe_other(self, other: Path) -> str:
        return (
            f"{other}: unfinished training with other settings"
            f" ({self._describe_difference(other / INPUTS_FILE)}) at step"
            f" {Snapshots(other).steps()[-1]}; delete it unless you want to resume it"
        )

    def _describe_difference(self, path: Path) -> str:
        try:
            other: dict[str, str] = json.loads(path.read_text())
        except (OSError, ValueError):
            return f"unknown: {path.name} cannot be read"
        names = sorted(other.keys() | self._inputs.keys())
        different = [name for name in names if other.get(name) != self._inputs.get(name)]
        changes = [self._describe_change(other, name) for name in different[:_MAX_INPUTS_LISTED]]
        more = (
            f" and {len(different) - _MAX_INPUTS_LISTED} more"
            if len(different) > _MAX_INPUTS_LISTED
            else ""
        )
        return f"{', '.join(changes)}{more}"

    def _describe_change(self, other: FingerprintInputs, name: str) -> str:
        old, new = (inputs.get(name, "none") for inputs in (other, self._inputs))
        is_digest = len(new) > _MAX_VALUE_LENGTH or len(old) > _MAX_VALUE_LENGTH
        return name if is_digest else f"{name} {old} instead of {new}"


def _fingerprint(inputs: FingerprintInputs) -> str:
    text = json.dumps(dict(inputs), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
