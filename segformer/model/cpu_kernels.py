"""Cache-blocked CPU versions of the network's widest operations, in bands of rows.

A band stays in the CPU's cache. Fresh memory is slow: every page of it is cleared before its first
use. `layers` and `decoder` call these functions where `use_cpu_kernels` returns True; the results
are the same.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEED_FORWARD_ROWS = 32
"""Rows per band of the Mix-FFN without gradients: its hidden channels stay in the cache."""

_GELU_TOKENS = 1024
"""Tokens per band of the GELU that is recomputed in the backward pass."""

_DECODER_ROWS = 16
"""Rows per band of the decoder."""


def use_cpu_kernels(grid: Tensor) -> bool:
    """Return whether bands are faster: on a CPU, without the compiler and without autocast."""
    is_eager = not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")
    return grid.is_cpu and is_eager


def is_plain_layer(layer: nn.Module) -> bool:
    """Return whether a layer is a plain nn.Linear or nn.Conv2d without hooks.

    Only the weights of such a layer may be used without calling it: an adapter, a quantized or a
    pruned layer would be bypassed silently.
    """
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    return type(layer) in (nn.Linear, nn.Conv2d) and not any(hooks)


def add_linear(grid: Tensor, linear: nn.Linear, tokens: Tensor) -> Tensor:
    """Return `grid + linear(tokens)`, (b, h, w, c) and (b, h, w, any), without gradients."""
    total = (grid + linear.bias).contiguous()
    total.view(-1, grid.shape[-1]).addmm_(tokens.flatten(0, 2), linear.weight.T)
    return total


def add_feed_forward(
    grid: Tensor, normed: Tensor, fc1: nn.Linear, depthwise: nn.Conv2d, fc2: nn.Linear
) -> Tensor:
    """Return `grid` plus the Mix-FFN of `normed`, (b, h, w, c) both, without gradients."""
    height = grid.shape[1]
    total = (grid + fc2.bias).contiguous()  # written into through views below
    if height <= 2 * _FEED_FORWARD_ROWS:
        wide = _hidden_map(normed, fc1, depthwise)
        total.view(-1, grid.shape[-1]).addmm_(wide.flatten(0, 2), fc2.weight.T)
        return total
    for image, source in zip(total, normed, strict=True):
        for top in range(0, height, _FEED_FORWARD_ROWS):
            # One more row above and below, for the 3x3 convolution.
            first, last = max(top - 1, 0), min(top + _FEED_FORWARD_ROWS + 1, height)
            wide = _hidden_map(source[None, first:last], fc1, depthwise)[0, top - first :]
            band = image[top : top + _FEED_FORWARD_ROWS].view(-1, grid.shape[-1])
            band.addmm_(wide[:_FEED_FORWARD_ROWS].flatten(0, 1), fc2.weight.T)
    return total


def _hidden_map(grid: Tensor, fc1: nn.Linear, depthwise: nn.Conv2d) -> Tensor:
    hidden: Tensor = depthwise(fc1(grid).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.ops.aten.gelu_(hidden)
    return hidden


def gelu_linear(tokens: Tensor, linear: nn.Linear) -> Tensor:
    """Return `linear(gelu(tokens))` of (b, h, w, c); the backward pass recomputes the GELU."""
    flat = _gelu_linear(tokens.flatten(0, 2), linear.weight, linear.bias)
    return flat.view(*tokens.shape[:3], -1)


class _GeluLinear(torch.autograd.Function):
    """(n, c), (o, c), (o,) -> (n, o): the GELU is recomputed by bands in the backward pass."""

    @staticmethod
    def forward(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = tokens.new_empty(len(tokens), len(weight))
        buffer = _new_band_buffer(tokens)
        for band, part in zip(*(map_.split(_GELU_TOKENS) for map_ in (tokens, out)), strict=True):
            hidden = torch.ops.aten.gelu.out(band, out=buffer[: len(band)])
            torch.addmm(bias, hidden, weight.T, out=part)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens, weight = ctx.saved_tensors
        grad_tokens, grad_weight = torch.empty_like(tokens), torch.zeros_like(weight)
        buffer = _new_band_buffer(tokens)
        maps = (map_.split(_GELU_TOKENS) for map_ in (tokens, gradient, grad_tokens))
        for band, grad_out, grad_band in zip(*maps, strict=True):
            hidden = torch.ops.aten.gelu.out(band, out=buffer[: len(band)])
            grad_weight.addmm_(grad_out.T, hidden)
            grad_hidden = torch.mm(grad_out, weight, out=hidden)
            torch.ops.aten.gelu_backward.grad_input(grad_hidden, band, grad_input=grad_band)
        return grad_tokens, grad_weight, gradient.sum(0)


_gelu_linear: Callable[[Tensor, Tensor, Tensor], Tensor] = _GeluLinear.apply


def _new_band_buffer(tokens: Tensor) -> Tensor:
    return tokens.new_empty(min(len(tokens), _GELU_TOKENS), tokens.shape[1])


def add_resized(total: Tensor, coarse: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Add maps, resized bilinearly, to a finer one, in place.

    Args:
        total: (b * h * w, c).
        coarse: (b, h', w', c) each.
        shape: b, h, w, c of `total`.

    Returns:
        `total` as (b, h, w, c).
    """
    return _add_resized(total, shape, *coarse).view(shape)


class _AddResized(torch.autograd.Function):
    """`add_resized`; plain autograd would allocate a full-size map for every coarse one."""

    @staticmethod
    def forward(total: Tensor, shape: torch.Size, *coarse: Tensor) -> Tensor:
        grid = total.view(shape)
        for rows, parts in iter_resized_bands(coarse, shape[1:3]):
            add_band(grid[:, rows], parts)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        total, ctx.shape, *coarse = inputs
        ctx.input_sizes = [grid.shape for grid in coarse]
        ctx.mark_dirty(total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _, h, w, _ = ctx.shape
        fine = gradient.view(ctx.shape).permute(0, 3, 1, 2)
        grad_coarse = [
            torch.ops.aten.upsample_bilinear2d_backward(
                fine, (h, w), (b, c, rows, columns), False, None, None
            ).permute(0, 2, 3, 1)
            for b, rows, columns, c in ctx.input_sizes
        ]
        return gradient, None, *grad_coarse


_add_resized: Callable[..., Tensor] = _AddResized.apply


def add_band(band: Tensor, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Add the products of one band of `iter_resized_bands` to (b, rows, w, c), in place."""
    flat = band.view(*band.shape[:2], -1)  # (b, rows, w * c), the same memory
    for weight, wide in parts:
        flat.baddbmm_(weight.expand(len(band), -1, -1), wide)
    return band


def iter_resized_bands(
    maps: Sequence[Tensor], size: Sequence[int]
) -> Iterator[tuple[slice, list[tuple[Tensor, Tensor]]]]:
    """Resize maps bilinearly to `size`, rows and columns, in bands of rows, top to bottom.

    Yields:
        The rows of a band and, for each (b, h, w, c) map, two factors whose product is its share:
        (rows, needed) weights, and (b, needed, columns * c), the source rows at full width.
    """
    height, width = size
    weights = [_row_weights(grid.shape[1], height, reference=grid) for grid in maps]
    for top in range(0, height, _DECODER_ROWS):
        rows = slice(top, min(top + _DECODER_ROWS, height))
        parts = []
        for grid, weight in zip(maps, weights, strict=True):
            used = weight[rows].any(dim=0).nonzero()
            needed = slice(int(used[0]), int(used[-1]) + 1)
            wide = resize(grid[:, needed], (needed.stop - needed.start, width))
            parts.append((weight[rows, needed], wide.flatten(2)))
        yield rows, parts


def resize(grid: Tensor, size: Sequence[int]) -> Tensor:
    """(b, h, w, c) -> (b, *size, c), bilinearly."""
    channels_first = grid.permute(0, 3, 1, 2)
    wide = F.interpolate(channels_first, list(size), mode="bilinear", align_corners=False)
    return wide.permute(0, 2, 3, 1)


def _row_weights(rows: int, resized_rows: int, reference: Tensor) -> Tensor:
    """(resized_rows, rows): the weight of each source row in each resized row."""
    unit = torch.eye(rows, dtype=reference.dtype, device=reference.device)
    return F.interpolate(unit[None], resized_rows, mode="linear", align_corners=False)[0].T
