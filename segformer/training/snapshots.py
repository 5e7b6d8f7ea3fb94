"""Snapshots: training states on disk, written atomically, with a digest in the file name."""

import hashlib
import logging
from pathlib import Path
from typing import Any, BinaryIO

import torch

from segformer.atomic import commit

MAX_SNAPSHOTS = 2
"""States kept on disk: the newest, and the one before it in case the newest is damaged."""

_logger = logging.getLogger(__name__)


class Snapshots:
    """The last states of one training, in one folder.

    A state is a file of torch.save, named such as `step-00000400-0123456789abcdef.pt` by its step
    and the first sixteen hex digits of its SHA-256. A file with another digest is skipped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the number of updates done in each saved state, in ascending order."""
        return [int(path.name.split("-")[1]) for path in self._paths()]

    def write(self, content: dict[str, Any]) -> None:
        """Write a state, whose step is content["step"], and delete the states no longer kept.

        Raises:
            OSError: if the disk is full; the existing states are unchanged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        part = (
            self.folder / "newest.part"
        )  # left over if a process was killed while writing; overwritten
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
        """Load the newest intact state onto the CPU; None if there is none. Delete damaged ones."""
        for path in reversed(self._paths()):
            if path.stem.endswith(_digest(path)):
                content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return content
            _logger.warning(
                f"{path} is damaged and was deleted; training resumes from an earlier state"
            )
            path.unlink()
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:
        # After an OSError PyTorch's writer closes its archive, which raises a RuntimeError.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
