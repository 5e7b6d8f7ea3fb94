"""Many arrays to a device in one copy that nothing waits for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALIGNMENT = 16
"""Bytes: every array begins at a multiple of them, as views of other types need it."""


def to_device(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Copy arrays to a device, through pinned memory if it is a GPU.

    The copy runs in the current stream; what comes after it there finds the arrays whole.

    Args:
        arrays: of any shapes and types, also windows of larger ones.
        device: where they should be.

    Returns:
        A tensor for each, of the same shape and type; all are views of one piece of memory.
    """
    starts = np.cumsum([0] + [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays])
    # PyTorch hands out a pinned piece again only when the copies from it are done.
    packed = torch.empty(int(starts[-1]), dtype=torch.uint8, pin_memory=device.type == "cuda")
    for array, part in zip(arrays, _split_buffer(packed, starts, arrays), strict=True):
        np.copyto(part.numpy(), array)
    return _split_buffer(packed.to(device, non_blocking=True), starts, arrays)


def _split_buffer(
    packed: Tensor, starts: NDArray[np.int64], arrays: Sequence[NDArray[Any]]
) -> list[Tensor]:
    return [
        packed[start : start + array.nbytes]
        .view(torch.from_numpy(np.empty(0, array.dtype)).dtype)
        .view(array.shape)
        for start, array in zip(starts.tolist(), arrays, strict=False)
    ]
