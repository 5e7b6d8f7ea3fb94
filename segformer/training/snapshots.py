"""Training states on disk: whole or not there, each with its digest in its name."""

import hashlib
import logging
from pathlib import Path
from typing import Any, BinaryIO

import torch

from segformer.atomic import commit

MAX_SNAPSHOTS = 2
"""States on disk: the newest, and the one before in case the newest was damaged since."""

_logger = logging.getLogger(__name__)


class Snapshots:
    """The last states of one training, in a folder of their own.

    A state is `step-00000400-0123456789abcdef.pt`: what torch.save wrote, and the first sixteen hex
    digits of its SHA-256. A file that does not fit its digest is passed over.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Updates done in each state that is there, fewest first."""
        return [int(path.name.split("-")[1]) for path in self._paths()]

    def write(self, content: dict[str, Any]) -> None:
        """Keep a state, whose updates done are content["step"], and drop those not needed any more.

        Raises:
            OSError: if the disk is full; the states that were there are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "newest.part"  # of who was killed while writing; it is begun anew
        try:
            with part.open("wb") as file:
                _save(content, file)
            name = f"step-{content['step']:08}-{_digest(part)}.pt"
            commit(part, self.folder / name)
        finally:
            part.unlink(missing_ok=True)
        for path in self._paths()[:-MAX_SNAPSHOTS]:
            path.unlink()

    def load_newest(self) -> dict[str, Any] | None:
        """Read the newest state that is whole, onto the CPU; None if there is none."""
        for path in reversed(self._paths()):
            if path.stem.endswith(_digest(path)):
                content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return content
            _logger.warning(f"{path} is damaged and passed over; training goes on from before it")
            path.unlink()
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as trouble:
        # PyTorch's writer closes its archive after an error of the system, and then has its own.
        if isinstance(trouble.__context__, OSError):
            raise trouble.__context__ from None
        raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
