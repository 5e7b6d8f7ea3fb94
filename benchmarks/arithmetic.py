"""Floating-point operations of a function, and the peak rate of a device."""

import time
from collections.abc import Callable, Sequence
from inspect import unwrap
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    addmm_flop,
    baddbmm_flop,
    sdpa_backward_flop,
    sdpa_flop,
)

_aten = torch.ops.aten


def _convolution_backward(
    gradient: Sequence[int], _: Sequence[int], weight: Sequence[int], *settings: Any, **__: Any
) -> int:
    """Count operations from shapes: each gradient has as many as the convolution.

    PyTorch's own formula counts a depthwise convolution as a full one.
    """
    output_mask = settings[-1]  # which gradients: of the input, the weight and the bias
    return 2 * prod(gradient) * prod(weight[1:]) * int(sum(output_mask[:2]))


_FLOP_FORMULAS: dict[Any, Any] = {
    _aten.convolution_backward: _convolution_backward,
    _aten.addmm_: unwrap(addmm_flop),
    _aten.baddbmm_: unwrap(baddbmm_flop),
    _aten._scaled_dot_product_flash_attention_for_cpu: unwrap(sdpa_flop),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: unwrap(sdpa_backward_flop),
}
"""Operations unknown to PyTorch's counter: in-place products, and attention on a CPU."""


def count_flops(function: Callable[[], object]) -> int:
    """Count the floating-point operations of matrix products, convolutions and attention.

    A multiplication and an addition count as two. Compiled code is not counted.
    """
    with FlopCounterMode(display=False, custom_mapping=_FLOP_FORMULAS) as counter:
        function()
    return int(counter.get_total_flops())


def measure_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return operations per second in a product of large square matrices, the best of several."""
    side, repeats = (8192, 20) if device.type == "cuda" else (2048, 3)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return max(repeats * 2 * side**3 / _seconds(left, right, repeats) for _ in range(4))


def _seconds(left: torch.Tensor, right: torch.Tensor, repeats: int) -> float:
    synchronize(left.device)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(left, right)
    synchronize(left.device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
