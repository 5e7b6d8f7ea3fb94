"""Everything that determines the bytes a training ends with, by name."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from segformer import processes

WITHOUT_EFFECT = frozenset(
    {"train.activation_checkpointing", "train.residency", "train.save_every"}
)
"""Parameters that change no byte: a training goes on when one of them is another."""

_PIECES = 64  # of a file too large to be read whole
_PIECE = 2**16  # bytes


def of_training(
    parameters: Mapping[str, object], *, code: Iterable[Path], data: Iterable[Path]
) -> dict[str, str]:
    """Name parameters, code, data and machine.

    Args:
        parameters: by name, `train.steps`; also the loss and the seed. Those WITHOUT_EFFECT are
            left out.
        code: the modules that take part.
        data: files and folders that are read. Of files above 4 MiB, such as the packed frames, the
            size and 64 pieces spread evenly over them are looked at.
    """
    return (
        {name: str(parameters[name]) for name in sorted(parameters.keys() - WITHOUT_EFFECT)}
        | {str(path): _digest(path) for path in sorted(code)}
        | {str(path): _digest(path) for path in sorted(_files(data))}
        | machine()
    )


def machine() -> dict[str, str]:
    """What the last bits of a sum depend on, by name."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = torch.backends.cpu.get_cpu_capability()
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device,
        "threads": str(torch.get_num_threads()),
        "processes": str(processes.count()),
    }


def _files(places: Iterable[Path]) -> Iterable[Path]:
    # What is missing is told by who reads it, if anybody does.
    for place in places:
        yield from (path for path in (place, *place.rglob("*")) if path.is_file())


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of its size and pieces of it if it is large."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _PIECES * _PIECE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        found = hashlib.sha256(str(size).encode())
        for index in range(_PIECES):
            file.seek(index * (size - _PIECE) // (_PIECES - 1))
            found.update(file.read(_PIECE))
        return found.hexdigest()
