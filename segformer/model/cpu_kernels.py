"""The network's widest steps done in bands of rows, which stay in a CPU's cache.

Fresh memory is slow there: every page of it is cleared before the first use. These are the same
functions as in `layers` and `decoder`, which choose them where `pays_off` says so.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEED_FORWARD_ROWS = 32
"""Rows fed forward at a time without gradients: the wide map of hidden channels stays in cache."""

_GELU_TOKENS = 1024
"""Tokens whose hidden channels are recomputed at a time when a gradient is wanted."""

_DECODER_ROWS = 16
"""Rows of the decoder at a time."""


def use_cpu_kernels(grid: Tensor) -> bool:
    """Whether bands are faster: on a CPU, unless the compiler or autocast decides what is done."""
    is_ours = not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")
    return grid.is_cpu and is_ours


def is_plain_layer(layer: nn.Module) -> bool:
    """Whether calling a layer is its own arithmetic and no more: no other class, no hooks.

    Only of such a layer may the weights be used without calling it: an adapter, a quantized or a
    pruned layer would be passed over in silence.
    """
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    return type(layer) in (nn.Linear, nn.Conv2d) and not any(hooks)


def add_linear(grid: Tensor, linear: nn.Linear, tokens: Tensor) -> Tensor:
    """`grid + linear(tokens)` of (b, h, w, c) and (b, h, w, any), in one new map; no gradients."""
    total = (grid + linear.bias).contiguous()
    total.view(-1, grid.shape[-1]).addmm_(tokens.flatten(0, 2), linear.weight.T)
    return total


def add_feed_forward(
    grid: Tensor, normed: Tensor, fc1: nn.Linear, depthwise: nn.Conv2d, fc2: nn.Linear
) -> Tensor:
    """`grid` plus the feed-forward of `normed`, (b, h, w, c) both, in one new map; no gradients."""
    height = grid.shape[1]
    total = (grid + fc2.bias).contiguous()  # what follows writes into views of it
    if height <= 2 * _FEED_FORWARD_ROWS:
        wide = _hidden_map(normed, fc1, depthwise)
        total.view(-1, grid.shape[-1]).addmm_(wide.flatten(0, 2), fc2.weight.T)
        return total
    for image, source in zip(total, normed, strict=True):
        for top in range(0, height, _FEED_FORWARD_ROWS):
            # One row more above and below, for the convolution to see.
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
    """`linear(gelu(tokens))` of (b, h, w, c); nothing is kept of the GELU for the backward pass."""
    flat = _gelu_linear(tokens.flatten(0, 2), linear.weight, linear.bias)
    return flat.view(*tokens.shape[:3], -1)


class _GeluLinear(torch.autograd.Function):
    """(n, c), (o, c), (o,) -> (n, o): a band's GELU is computed anew in the backward pass."""

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
        of_tokens, of_weight = torch.empty_like(tokens), torch.zeros_like(weight)
        buffer = _new_band_buffer(tokens)
        maps = (map_.split(_GELU_TOKENS) for map_ in (tokens, gradient, of_tokens))
        for band, of_out, of_band in zip(*maps, strict=True):
            hidden = torch.ops.aten.gelu.out(band, out=buffer[: len(band)])
            of_weight.addmm_(of_out.T, hidden)
            of_hidden = torch.mm(of_out, weight, out=hidden)
            torch.ops.aten.gelu_backward.grad_input(of_hidden, band, grad_input=of_band)
        return of_tokens, of_weight, gradient.sum(0)


_gelu_linear: Callable[[Tensor, Tensor, Tensor], Tensor] = _GeluLinear.apply


def _new_band_buffer(tokens: Tensor) -> Tensor:
    return tokens.new_empty(min(len(tokens), _GELU_TOKENS), tokens.shape[1])


def add_resized(total: Tensor, coarse: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Add maps, resized bilinearly, to a finer one, in place.

    Args:
        total: (b * h * w, c), what `shape` says of it.
        coarse: (b, h', w', c) each.
        shape: b, h, w, c.

    Returns:
        `total` as (b, h, w, c).
    """
    return _add_resized(total, shape, *coarse).view(shape)


class _AddResized(torch.autograd.Function):
    """`add_resized`; autograd itself would make a map of full size for every coarse one."""

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
        of_coarse = [
            torch.ops.aten.upsample_bilinear2d_backward(
                fine, (h, w), (b, c, rows, columns), False, None, None
            ).permute(0, 2, 3, 1)
            for b, rows, columns, c in ctx.input_sizes
        ]
        return gradient, None, *of_coarse


_add_resized: Callable[..., Tensor] = _AddResized.apply


def add_band(band: Tensor, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Add to some rows, (b, rows, w, c), in place, what `resized_bands` yields for them."""
    flat = band.view(*band.shape[:2], -1)  # (b, rows, w * c), the same memory
    for weight, wide in parts:
        flat.baddbmm_(weight.expand(len(band), -1, -1), wide)
    return band


def iter_resized_bands(
    maps: Sequence[Tensor], size: Sequence[int]
) -> Iterator[tuple[slice, list[tuple[Tensor, Tensor]]]]:
    """Cut maps that are to be resized to `size`, rows and columns, into bands, top to bottom.

    Yields:
        The rows of a band and, for each of the (b, h, w, c), what makes its share of them: a
        (rows, needed) and a (b, needed, columns * c), to be multiplied.
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
    """(resized_rows, rows): how much each row counts in each resized one."""
    unit = torch.eye(rows, dtype=reference.dtype, device=reference.device)
    return F.interpolate(unit[None], resized_rows, mode="linear", align_corners=False)[0].T
