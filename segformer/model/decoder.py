"""The all-MLP decoder: bring four feature maps to one width and size, fuse them, score every pixel.

As published, every map is projected to `width` channels, resized to the finest one, and fused by a
1x1 convolution over all four. A 1x1 convolution and bilinear resizing commute, so the two matrices
of a map are multiplied with each other first and applied at the map's own low resolution; then the
maps are resized and added: the same function of the same parameters, with less arithmetic.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer.model.cpu_kernels import (
    add_band,
    add_resized,
    iter_resized_bands,
    resize,
    use_cpu_kernels,
)
from segformer.model.layers import init_weights


class MlpDecoder(nn.Module):
    """The all-MLP decoder: four feature maps to class scores at the size of the finest.

    Args:
        in_widths: channels of the feature maps, finest first.
        width: channels within the decoder.
        num_classes: k.
        dropout: rate of channels dropped before the classifier, in training.
    """

    def __init__(
        self, in_widths: Sequence[int], width: int, num_classes: int, *, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.unify = nn.ModuleList(nn.Linear(in_width, width) for in_width in in_widths)
        # Its inputs are the coarsest map first: the order of the released weights.
        self.mix = nn.Conv2d(len(in_widths) * width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, num_classes, 1)
        self.apply(init_weights)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four (b, h, w, c), finest first -> (b, k, h, w) at the size of the finest."""
        if self.training:
            mixed = sum_resized(maps, *self.fuse_weights()).permute(0, 3, 1, 2)  # (b, width, h, w)
            normed = F.relu(self.norm(mixed), inplace=True)
            return self._apply_classifier(self.dropout(normed).permute(0, 2, 3, 1)).permute(
                0, 3, 1, 2
            )
        if use_cpu_kernels(maps[0]):
            sums = iter_sum_resized(maps, *self.fold_batch_norm())
        else:
            sums = iter([sum_resized(maps, *self.fold_batch_norm())])
        parts = [self._apply_classifier(F.relu(part, inplace=True)) for part in sums]
        return torch.cat(parts, dim=1).permute(0, 3, 1, 2)

    def _apply_classifier(self, grid: Tensor) -> Tensor:
        """(b, h, w, width) -> (b, h, w, k), as a matrix product; a convolution can be slower."""
        return F.linear(grid, self.classify.weight.flatten(1), self.classify.bias)

    def fuse_weights(self) -> tuple[list[Tensor], Tensor]:
        """Return the products of `unify` and `mix`: a (width, c) per map, a (width,) bias."""
        parts = self.mix.weight.flatten(1).chunk(len(self.unify), dim=1)[::-1]
        linears = [cast(nn.Linear, layer) for layer in self.unify]
        matrices = [part @ linear.weight for part, linear in zip(parts, linears, strict=True)]
        biases = [part @ linear.bias for part, linear in zip(parts, linears, strict=True)]
        return matrices, torch.stack(biases).sum(0)

    def fold_batch_norm(self) -> tuple[list[Tensor], Tensor]:
        """Return the matrices and bias of `fuse_weights` with the BatchNorm folded in."""
        matrices, bias = self.fuse_weights()
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = (bias - norm.running_mean) * scale + norm.bias
        return [scale[:, None] * matrix for matrix in matrices], bias


def sum_resized(maps: Sequence[Tensor], matrices: Sequence[Tensor], bias: Tensor) -> Tensor:
    """Apply each map's matrix at its own size, resize to the finest bilinearly, and add up.

    Args:
        maps: (b, h, w, c) each, finest first.
        matrices: (width, c) for each map.
        bias: (width,), added once.

    Returns:
        (b, h, w, width) at the size of the finest.
    """
    finest, coarse = maps[0], project_coarse_maps(maps, matrices, bias)
    # As a 2-d matrix: adding in place to a view would make autograd copy whole gradients.
    total = torch.mm(finest.flatten(0, 2), matrices[0].T)
    shape = torch.Size((*finest.shape[:3], total.shape[1]))
    if use_cpu_kernels(finest):
        return add_resized(total, coarse, shape)
    for grid in coarse:
        total.add_(resize(grid, shape[1:3]).reshape(total.shape))
    return total.view(shape)


def iter_sum_resized(
    maps: Sequence[Tensor], matrices: Sequence[Tensor], bias: Tensor
) -> Iterator[Tensor]:
    """Yield the result of `sum_resized` in bands of rows, top to bottom, without the whole map."""
    finest, coarse = maps[0], project_coarse_maps(maps, matrices, bias)
    for rows, parts in iter_resized_bands(coarse, finest.shape[1:3]):
        yield add_band(F.linear(finest[:, rows], matrices[0]), parts)


def project_coarse_maps(
    maps: Sequence[Tensor], matrices: Sequence[Tensor], bias: Tensor
) -> list[Tensor]:
    """Apply the matrices to all maps but the finest; the bias is added to the smallest."""
    pairs = zip(maps[1:], matrices[1:], strict=True)
    *grids, smallest = [F.linear(grid, matrix) for grid, matrix in pairs]
    return [*grids, smallest + bias]
