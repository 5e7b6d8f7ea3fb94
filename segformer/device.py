"""How a device computes: in which number type, compiled or not, and without chance or not."""

import importlib.util
import logging
import os
from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16"]
"""What the network computes in; auto: bfloat16 on a GPU that has it, float32 elsewhere."""

Compile = Literal["auto"] | bool
"""Whether the network is compiled; auto: on a GPU. (On CPUs it gained nothing.)"""

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
    """Return the network compiled, where that is wanted and possible, and leave it as it is.

    Whoever validates calls the plain one: frames of another size than the crops would have the
    compiler make another version for sizes of any kind, which is slower for the crops, too.
    """
    if not mode or (mode == "auto" and device.type != "cuda"):
        return network
    if trouble := _compiler_error(device):
        _logger.warning(f"the network is not compiled, which is slower: {trouble}")
        return network
    fast = torch.compile(network)
    assert isinstance(fast, nn.Module)
    return fast


def set_deterministic(enabled: bool) -> None:
    """Have PyTorch use only algorithms that give the same bits each time, or be fast (the default).

    On a CPU all of them do, with the same number of threads.
    """
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(enabled)
    torch.backends.cudnn.benchmark = not enabled


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device or the host has too little memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        message in str(error) for message in _OUT_OF_MEMORY_MESSAGES
    )


def _has_fast_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _compiler_error(device: torch.device) -> str:
    """Say what is wrong with the compiler, after having it compile a sum; empty if nothing is."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    try:
        torch.compile(_add_one)(torch.ones(2, device=device))
    except (RuntimeError, OSError, ImportError) as error:  # what its many tools raise
        return str(error).strip().splitlines()[0]
    return ""


def _add_one(tensor: torch.Tensor) -> torch.Tensor:
    return tensor + 1
