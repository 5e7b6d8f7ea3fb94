"""How much arithmetic a function is, and how fast a device does it at best."""

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
    of_output: Sequence[int], _: Sequence[int], weight: Sequence[int], *settings: Any, **__: Any
) -> int:
    """Operations, from shapes: each gradient takes as many as the convolution did.

    PyTorch's own formula takes a depthwise convolution's for a full one.
    """
    wanted = settings[-1]  # which gradients: of the input, the weight and the bias
    return 2 * prod(of_output) * prod(weight[1:]) * int(sum(wanted[:2]))


_FLOP_FORMULAS: dict[Any, Any] = {
    _aten.convolution_backward: _convolution_backward,
    _aten.addmm_: unwrap(addmm_flop),
    _aten.baddbmm_: unwrap(baddbmm_flop),
    _aten._scaled_dot_product_flash_attention_for_cpu: unwrap(sdpa_flop),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: unwrap(sdpa_backward_flop),
}
"""Besides what PyTorch's counter knows: products written in place, and attention on a CPU."""


def count_flops(function: Callable[[], object]) -> int:
    """Floating-point operations of a function's products, convolutions and attention.

    A multiplication and an addition are two. Nothing compiled is seen.
    """
    with FlopCounterMode(display=False, custom_mapping=_FLOP_FORMULAS) as counter:
        function()
    return int(counter.get_total_flops())


def measure_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second in a product of two large square matrices, the best of several."""
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
    """Return when the device has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
