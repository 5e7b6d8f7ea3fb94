"""The Mix Transformer encoder: four stages, each with a coarser and wider feature map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from segformer.model.cpu_kernels import use_cpu_kernels
from segformer.model.layers import (
    NORM_EPS,
    Attention,
    DropPath,
    FeedForward,
    PatchEmbedding,
    drop_path_rates,
    init_weights,
)
from segformer.model.variants import (
    EXPANSION,
    HEADS,
    MIN_SIDE,
    PATCH_KERNELS,
    PATCH_STRIDES,
    REDUCTIONS,
    Variant,
)


class Block(nn.Module):
    """A transformer block: efficient self-attention, then Mix-FFN; pre-norm, with residuals."""

    def __init__(
        self, width: int, *, heads: int, reduction: int, drop_path: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads=heads, reduction=reduction, norm_eps=norm_eps)
        self.feed_forward_norm = nn.LayerNorm(width, eps=norm_eps)
        self.feed_forward = FeedForward(width, EXPANSION * width)
        self.drop_path = DropPath(drop_path)

    def forward(self, grid: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c)."""
        if use_cpu_kernels(grid) and not self.training and not torch.is_grad_enabled():
            grid = self.attention(self.attention_norm(grid), residual=grid)
            added: Tensor = self.feed_forward(self.feed_forward_norm(grid), residual=grid)
            return added
        # Not in place: autograd would copy the whole gradient of a view that is written to.
        grid = grid + self.drop_path(self.attention(self.attention_norm(grid)))
        total: Tensor = grid + self.drop_path(self.feed_forward(self.feed_forward_norm(grid)))
        return total


class Stage(nn.Module):
    """A stage at one resolution: patch embedding, blocks and a final norm."""

    def __init__(self, patch: PatchEmbedding, blocks: Sequence[Block], norm: nn.LayerNorm) -> None:
        super().__init__()
        self.use_checkpointing = False
        self.patch = patch
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(self, grid: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, ceil(h / stride), ceil(w / stride), width)."""
        grid = self.patch(grid)
        for block in self.blocks:
            if self.use_checkpointing and torch.is_grad_enabled():
                grid = checkpoint(block, grid, use_reentrant=False)
            else:
                grid = block(grid)
        normed: Tensor = self.norm(grid)
        return normed


class Encoder(nn.Module):
    """Feature maps of an image at 1/4, 1/8, 1/16 and 1/32 of its size.

    Args:
        variant: widths and depths.
        drop_path: rate of the last block; it rises linearly from 0 at the first.
        norm_eps: LayerNorm epsilon of all layers.
    """

    def __init__(
        self, variant: Variant, *, drop_path: float = 0.1, norm_eps: float = NORM_EPS
    ) -> None:
        super().__init__()
        self.variant = variant
        rates = iter(drop_path_rates(drop_path, sum(variant.depths)))
        self.stages = nn.ModuleList(
            _build_stage(
                index, variant, [next(rates) for _ in range(variant.depths[index])], norm_eps
            )
            for index in range(len(variant.widths))
        )
        self.apply(init_weights)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(b, 3, H, W) normalized -> four (b, ceil(H / s), ceil(W / s), c), s = 4, 8, 16, 32."""
        grid, maps = self.to_channels_last(images), []
        for stage in self.stages:
            grid = stage(grid)
            maps.append(grid)
        return maps

    def set_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Turn gradient checkpointing on or off (arXiv:1604.06174).

        Only the inputs of the blocks are kept; all other activations are recomputed in the backward
        pass. The gradients are the same, for most of the memory about a third more arithmetic.
        """
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.use_checkpointing = enabled

    def to_channels_last(self, images: Tensor) -> Tensor:
        """(b, 3, H, W) -> (b, H, W, 3), contiguous.

        Raises:
            ValueError: for images with fewer rows or columns than MIN_SIDE.
        """
        if min(images.shape[2:]) < MIN_SIDE:
            raise ValueError(
                f"images of {images.shape[2]}x{images.shape[3]} pixels are too small; "
                f"the network needs at least {MIN_SIDE} rows and columns"
            )
        return images.permute(0, 2, 3, 1).contiguous()


def _build_stage(
    index: int, variant: Variant, drop_path: Sequence[float], norm_eps: float
) -> Stage:
    width = variant.widths[index]
    patch = PatchEmbedding(
        variant.widths[index - 1] if index else 3,
        width,
        kernel=PATCH_KERNELS[index],
        stride=PATCH_STRIDES[index],
        norm_eps=norm_eps,
    )
    blocks = [
        Block(
            width,
            heads=HEADS[index],
            reduction=REDUCTIONS[index],
            drop_path=rate,
            norm_eps=norm_eps,
        )
        for rate in drop_path
    ]
    return Stage(patch, blocks, nn.LayerNorm(width, eps=norm_eps))
