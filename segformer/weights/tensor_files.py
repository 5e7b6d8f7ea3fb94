"""Reads files of named tensors, .safetensors or PyTorch's, without running code in them."""

import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# On arbitrary bytes the unpickler can fail with any of these.
_LOAD_ERRORS = (
    *(SafetensorError, pickle.UnpicklingError, struct.error, RuntimeError, EOFError, OSError),
    *(LookupError, AttributeError, TypeError, ValueError, AssertionError, MemoryError),
)


def load_stored(path: Path) -> Any:
    """Return what a .safetensors, .pth, .pt or .bin file contains, on the CPU.

    Raises:
        ValueError: if the file is missing, damaged, or contains what could run code.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; check the path") from None
    except _LOAD_ERRORS as error:
        raise ValueError(
            f"{path}: cannot be read ({_short_reason(error)});"
            " give a .safetensors file, or a .pth or .bin file with tensors only"
        ) from None


def check_tensors(stored: Any, path: Path) -> dict[str, Tensor]:
    """Return the named tensors in `stored`, itself or its entry `state_dict`.

    Raises:
        ValueError: if it is something else, or has entries that are not dense floating-point
            tensors (`num_batches_tracked` may be an integer).
    """
    stored = stored.get("state_dict", stored) if isinstance(stored, Mapping) else stored
    if not isinstance(stored, Mapping):
        raise ValueError(
            f"{path}: contains a {type(stored).__name__}; give a file of named tensors"
        )
    others = [str(name) for name, value in stored.items() if not _is_weight(name, value)]
    if others:
        raise ValueError(
            f"{path}: not dense floating-point tensors: {', '.join(others[:5])}; give a state dict"
        )
    return dict(stored)


def _is_weight(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, Tensor) or value.is_sparse:
        return False
    return value.is_floating_point() or name.endswith(".num_batches_tracked")


def _short_reason(error: BaseException) -> str:
    """The first sentence of an error, without PyTorch's advice to load the file unsafely."""
    unsafe = re.search(r"GLOBAL (\S+)", str(error))
    if unsafe:
        return f"it contains {unsafe[1]}, which is not a tensor and could run code"
    return re.split(r"\. |\n", str(error) or type(error).__name__)[0]
