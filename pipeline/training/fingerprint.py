"""Collect everything that determines the bytes of a trained model, by name."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from segformer import distributed

BYTE_NEUTRAL = frozenset({"train.activation_checkpointing", "train.residency", "train.save_every"})
"""Parameters that do not change the trained model: after a change, a training still resumes."""

_NUM_CHUNKS = 64  # of a file too large to be hashed whole
_CHUNK_BYTES = 2**16


def fingerprint_inputs(
    parameters: Mapping[str, object], *, code: Iterable[Path], data: Iterable[Path]
) -> dict[str, str]:
    """Return the values of parameters and machine, and the digests of code and data, by name.

    Args:
        parameters: by name, `train.steps`, with the loss and the seed. Those in BYTE_NEUTRAL are
            left out.
        code: the modules that the training runs.
        data: the files and folders that the training reads. Of files above 4 MiB, such as packed
            frames, the digest covers the size and 64 chunks spread evenly over the file.
    """
    return (
        {name: str(parameters[name]) for name in sorted(parameters.keys() - BYTE_NEUTRAL)}
        | {str(path): _digest(path) for path in sorted(code)}
        | {str(path): _digest(path) for path in sorted(_list_files(data))}
        | describe_machine()
    )


def describe_machine() -> dict[str, str]:
    """Return the properties of the machine that the last bits of a sum depend on, by name."""
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
    # A missing file is reported by the code that reads it.
    for root in paths:
        yield from (path for path in (root, *root.rglob("*")) if path.is_file())


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of its size and some chunks if it is large."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _NUM_CHUNKS * _CHUNK_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for index in range(_NUM_CHUNKS):
            file.seek(index * (size - _CHUNK_BYTES) // (_NUM_CHUNKS - 1))
            digest.update(file.read(_CHUNK_BYTES))
        return digest.hexdigest()
