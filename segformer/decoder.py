"""The all-MLP decoder: bring four maps to one width and size, mix them, and score every pixel.

As published, every scale is made `width` wide, resized to the finest one, and mixed by a 1x1
convolution that reads all four. A 1x1 convolution and bilinear resizing commute, so the two
matrices of a scale are multiplied with each other first, and applied at the scale's own low
resolution; then come resizing and adding: the same function of the same parameters, for less.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer.layers import initialise

_BAND = 16
"""Rows scored at a time on a CPU: few enough to stay in its cache, as fresh memory is slow."""


class MlpDecoder(nn.Module):
    """Four maps in, scores at the size of the finest out.

    Args:
        in_widths: channels of the four maps, finest first.
        width: channels within the decoder.
        num_classes: k.
        dropout: rate of channels left out before the classifier, in training.
    """

    def __init__(
        self, in_widths: Sequence[int], width: int, num_classes: int, *, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.unify = nn.ModuleList(nn.Linear(in_width, width) for in_width in in_widths)
        # Coarsest first along its inputs: the order in which the released weights were trained.
        self.mix = nn.Conv2d(len(in_widths) * width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, num_classes, 1)
        self.apply(initialise)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four (b, h, w, c), finest first -> (b, k, h, w) at the size of the finest."""
        if self.training:
            mixed = resized_sum(maps, *self.multiplied()).permute(0, 3, 1, 2)  # (b, width, h, w)
            normed = F.relu(self.norm(mixed), inplace=True)
            return self._score(self.dropout(normed).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if maps[0].is_cpu and not torch.compiler.is_compiling():
            sums = resized_sum_in_bands(maps, *self.folded())
        else:
            sums = iter([resized_sum(maps, *self.folded())])
        parts = [self._score(F.relu(part, inplace=True)) for part in sums]
        return torch.cat(parts, dim=1).permute(0, 3, 1, 2)

    def _score(self, grid: Tensor) -> Tensor:
        """(b, h, w, width) -> (b, h, w, k); as a matrix, since a convolution can be far slower."""
        return F.linear(grid, self.classify.weight.flatten(1), self.classify.bias)

    def multiplied(self) -> tuple[list[Tensor], Tensor]:
        """What `unify` and `mix` do to a map together: a (width, c) per map, one (width,) bias."""
        parts = self.mix.weight.flatten(1).chunk(len(self.unify), dim=1)[::-1]
        linears = [cast(nn.Linear, layer) for layer in self.unify]
        matrices = [part @ linear.weight for part, linear in zip(parts, linears, strict=True)]
        biases = [part @ linear.bias for part, linear in zip(parts, linears, strict=True)]
        return matrices, torch.stack(biases).sum(0)

    def folded(self) -> tuple[list[Tensor], Tensor]:
        """The same with the BatchNorm of evaluation in it."""
        matrices, bias = self.multiplied()
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = (bias - norm.running_mean) * scale + norm.bias
        return [scale[:, None] * matrix for matrix in matrices], bias


def resized_sum(maps: Sequence[Tensor], matrices: Sequence[Tensor], bias: Tensor) -> Tensor:
    """Apply each map's matrix at its own size, resize to the finest bilinearly, and add.

    Args:
        maps: (b, h, w, c) each, finest first.
        matrices: (width, c) for each map.
        bias: (width,), added once.

    Returns:
        (b, h, w, width) at the size of the finest.
    """
    finest, *coarse = maps
    total = F.linear(finest, matrices[0], bias)
    for grid, matrix in zip(coarse, matrices[1:], strict=True):
        total += _resized(F.linear(grid, matrix), (finest.shape[1], finest.shape[2]))
    return total


def resized_sum_in_bands(
    maps: Sequence[Tensor], matrices: Sequence[Tensor], bias: Tensor, rows: int = _BAND
) -> Iterator[Tensor]:
    """What `resized_sum` returns, `rows` rows at a time, top to bottom."""
    finest, *coarse = maps
    height, width = finest.shape[1:3]
    narrow = [F.linear(grid, matrix) for grid, matrix in zip(coarse, matrices[1:], strict=True)]
    weights = [_row_weights(grid.shape[1], height, like=grid) for grid in narrow]
    for top in range(0, height, rows):
        band = F.linear(finest[:, top : top + rows], matrices[0], bias)
        flat = band.flatten(2)  # (b, rows, w * width), the same memory
        for grid, weight in zip(narrow, weights, strict=True):
            part, source = _needed_rows(weight[top : top + rows])
            wide = _resized(grid[:, source], (part.shape[1], width)).flatten(2)
            flat.baddbmm_(part.expand(len(band), -1, -1), wide)
        yield band


def _resized(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """(b, h, w, c) -> (b, *size, c), bilinearly."""
    wide = F.interpolate(grid.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    return wide.permute(0, 2, 3, 1)


def _row_weights(rows: int, resized_rows: int, like: Tensor) -> Tensor:
    """(resized_rows, rows): how much each row counts in each resized one."""
    unit = torch.eye(rows, dtype=like.dtype, device=like.device)
    return F.interpolate(unit[None], resized_rows, mode="linear", align_corners=False)[0].T


def _needed_rows(weight: Tensor) -> tuple[Tensor, slice]:
    """Only those columns of (resized rows, rows) that are not zero, and which they are."""
    used = weight.any(dim=0).nonzero()
    source = slice(int(used[0]), int(used[-1]) + 1)
    return weight[:, source], source
