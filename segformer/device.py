"""Device settings: precision, compilation, deterministic algorithms, out-of-memory errors."""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16"]
"""Precision of the network; auto: bfloat16 on a GPU that supports it, float32 elsewhere."""

Compile = Literal["auto"] | bool
"""Whether the network is compiled; auto: on a GPU only (no faster on CPUs)."""

_logger = logging.getLogger(__name__)

# The CPU's allocator, cuBLAS and CUDA outside PyTorch's allocator raise a plain RuntimeError.
_OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def best_device() -> torch.device:
    """Return a GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """Return the type for `torch.autocast`; None to compute in float32."""
    if precision == "auto":
        precision = "bfloat16" if _has_fast_bfloat16(device) else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None


def maybe_compile(network: nn.Module, mode: Compile, device: torch.device) -> nn.Module:
    """Return the network compiled, if requested and possible; the network itself is unchanged.

    Validate with the plain network: frames of another size than the crops would make the compiler
    build a version for dynamic sizes, which is slower for the crops, too.
    """
    if not mode or (mode == "auto" and device.type != "cuda"):
        return network
    if error := _compiler_error(device):
        _logger.warning(f"the network is not compiled, training is slower: {error}")
        return network
    compiled = torch.compile(network)
    assert isinstance(compiled, nn.Module)
    return compiled


def set_deterministic(enabled: bool) -> None:
    """Use only deterministic algorithms, or the fastest ones (PyTorch's default).

    On a CPU all algorithms are deterministic for a given number of threads.
    """
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it
    torch.use_deterministic_algorithms(enabled)
    torch.backends.cudnn.benchmark = not enabled


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception reports that the device or the host is out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        message in str(error) for message in _OUT_OF_MEMORY_MESSAGES
    )


@contextmanager
def explain_out_of_memory(path: Path, size: tuple[int, ...]) -> Iterator[None]:
    """Turn an out-of-memory error into a ValueError that names the file and a remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{path}: not enough memory for {size[0]} x {size[1]} pixels; choose a smaller input"
            " size (--size), or shrink the file"
        ) from None


def _has_fast_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _compiler_error(device: torch.device) -> str:
    """Compile a sum, and return the first line of the error; empty if there is none."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    try:
        torch.compile(_add_one)(torch.ones(2, device=device))
    except (RuntimeError, OSError, ImportError) as error:  # raised by the tools of the compiler
        return str(error).strip().splitlines()[0]
    return ""


def _add_one(tensor: torch.Tensor) -> torch.Tensor:
    return tensor + 1
