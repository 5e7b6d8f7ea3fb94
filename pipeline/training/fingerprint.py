"""Everything that determines the bytes a training ends with, by name."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from segformer import distributed

BYTE_NEUTRAL = frozenset({"train.activation_checkpointing", "train.residency", "train.save_every"})
"""Parameters that change no byte: a training goes on when one of them is another."""

_NUM_CHUNKS = 64  # of a file too large to be read whole
_CHUNK_BYTES = 2**16  # bytes


def fingerprint_inputs(
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
        {name: str(parameters[name]) for name in sorted(parameters.keys() - BYTE_NEUTRAL)}
        | {str(path): _digest(path) for path in sorted(code)}
        | {str(path): _digest(path) for path in sorted(_list_files(data))}
        | describe_machine()
    )


def describe_machine() -> dict[str, str]:
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
        "processes": str(distributed.world_size()),
    }


def _list_files(paths: Iterable[Path]) -> Iterable[Path]:
    # What is missing is told by who reads it, if anybody does.
    for place in paths:
        yield from (path for path in (place, *place.rglob("*")) if path.is_file())


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of its size and pieces of it if it is large."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _NUM_CHUNKS * _CHUNK_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        found = hashlib.sha256(str(size).encode())
        for index in range(_NUM_CHUNKS):
            file.seek(index * (size - _CHUNK_BYTES) // (_NUM_CHUNKS - 1))
            found.update(file.read(_CHUNK_BYTES))
        return found.hexdigest()
