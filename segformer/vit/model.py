"""The Vision Transformer of arXiv:2010.11929, and the attention of its CLS token in the last block.

Tokens are (b, 1 + h * w, c): the CLS token, then the patches row by row.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer.vit.variants import EXPANSION, VitVariant

NORM_EPS = 1e-6
"""LayerNorm epsilon of DINO's code. transformers' configurations of these weights have 1e-12."""


class VisionTransformer(nn.Module):
    """A Vision Transformer without a head, for images of any number of whole patches.

    Args:
        variant: patch, width, depth and heads.
        norm_eps: LayerNorm epsilon; change it only to compare with another implementation.
    """

    def __init__(self, variant: VitVariant, *, norm_eps: float = NORM_EPS) -> None:
        super().__init__()
        width = variant.width
        self.variant = variant
        self.patch = nn.Conv2d(3, width, variant.patch, variant.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + variant.side**2, width))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads=variant.heads, norm_eps=norm_eps)
            for _ in range(variant.depth)
        )
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        if not self.cls_token.is_meta:  # there PyTorch would load its compiler, to fill nothing
            self._init_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the hidden states after the final norm.

        Args:
            images: (b, 3, H, W) normalized by the mean and standard deviation of ImageNet; H and W
                are multiples of the patch.

        Returns:
            (b, 1 + h * w, c) with h = H / patch, w = W / patch.

        Raises:
            ValueError: for a size that is not a whole number of patches.
        """
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens)
        return normed

    def cls_attention(self, images: Tensor) -> Tensor:
        """Compute the attention of the CLS token to the patches in the last block (DINO, figure 1).

        The other rows of the last block's attention, its values and its feed-forward network are
        not computed.

        Args:
            images: as in `forward`.

        Returns:
            (b, a, h, w): the attention weight, 0..1, of each patch, for each head. The weights of a
            head sum to 1 minus the weight of the CLS token itself, which is left out.

        Raises:
            ValueError: as `forward`.
        """
        tokens = self.embed(images)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        last = cast(TransformerBlock, self.blocks[-1])
        weights = last.attention.first_row(last.attention_norm(tokens))  # (b, a, 1 + h * w)
        maps: Tensor = weights[:, :, 1:].unflatten(2, self._grid_size(images))
        return maps

    def embed(self, images: Tensor) -> Tensor:
        """(b, 3, H, W) -> (b, 1 + h * w, c): patches and CLS token with their positions."""
        size = self._grid_size(images)
        patches = self.patch(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        return tokens + resize_positions(self.positions, size)

    def _init_weights(self) -> None:
        """Initialize as DINO's code does: truncated normal, standard deviation 0.02."""
        for embedding in (self.patch.weight, self.cls_token, self.positions):
            nn.init.trunc_normal_(embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def _grid_size(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches."""
        patch = self.variant.patch
        height, width = images.shape[-2:]
        if height % patch or width % patch or 0 in (height, width):
            nearest = " x ".join(str(nearest_multiple(side, patch)) for side in (height, width))
            raise ValueError(
                f"images are {height} x {width}, but {self.variant.name} needs multiples of"
                f" {patch}; resize them to {nearest}"
            )
        return height // patch, width // patch


class TransformerBlock(nn.Module):
    """Self-attention and a feed-forward network, each after a norm and around a residual."""

    def __init__(self, width: int, *, heads: int, norm_eps: float = NORM_EPS) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=norm_eps)
        self.attention = SelfAttention(width, heads=heads)
        self.feed_forward_norm = nn.LayerNorm(width, eps=norm_eps)
        self.widen = nn.Linear(width, EXPANSION * width)
        self.narrow = nn.Linear(EXPANSION * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, n, c) -> (b, n, c)."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        hidden = F.gelu(self.widen(self.feed_forward_norm(tokens)))
        narrow: Tensor = self.narrow(hidden)
        return tokens + narrow


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, n, c) -> (b, n, c)."""
        projected = self.query_key_value(tokens).unflatten(2, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # (b, a, n, d) each
        heads = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return out

    def first_row(self, tokens: Tensor) -> Tensor:
        """(b, n, c) -> (b, a, n): the softmax weights of the first token's query."""
        width = tokens.shape[2]
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        query = F.linear(tokens[:, 0], weight[:width], bias[:width])  # (b, c)
        query = query.unflatten(1, (self.heads, -1))[:, :, None]  # (b, a, 1, d)
        key = F.linear(tokens, weight[width : 2 * width], bias[width : 2 * width])
        key = key.unflatten(2, (self.heads, -1)).permute(0, 2, 3, 1)  # (b, a, d, n)
        scores = query @ key / query.shape[-1] ** 0.5
        weights: Tensor = scores.softmax(dim=-1)[:, :, 0]
        return weights


def resize_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize learned positions bicubically to another grid, as transformers does.

    Args:
        positions: (1, 1 + s * s, c); the first is the position of the CLS token.
        size: rows and columns of the grid.

    Returns:
        (1, 1 + rows * columns, c).
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    if size == (side, side):
        return positions
    grid = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def nearest_multiple(side: int, patch: int) -> int:
    """The multiple of `patch` nearest to a number of pixels, at least one patch."""
    return max(round(side / patch), 1) * patch
