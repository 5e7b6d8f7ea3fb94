"""The encoder's layers: overlapping patch embedding, efficient self-attention, Mix-FFN, drop path.

Every feature map is a grid of tokens, (b, h, w, c) and contiguous: linears and norms read it as it
is, and a convolution reads the same memory as `channels_last` (b, c, h, w), so nothing is ever
transposed.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer.model.cpu_kernels import (
    add_feed_forward,
    add_linear,
    gelu_linear,
    is_plain_layer,
    use_cpu_kernels,
)

NORM_EPS = 1e-5
"""LayerNorm epsilon of all layers, as transformers runs the released weights.

The original code has 1e-6 within blocks and at stage ends, 1e-5 elsewhere; `norm_eps` changes it.
"""


def convolve(convolution: nn.Conv2d, grid: Tensor) -> Tensor:
    """(b, h, w, c) -> (b, h', w', c'): apply a convolution to a grid of tokens without a copy."""
    channels_first: Tensor = convolution(grid.permute(0, 3, 1, 2))
    return channels_first.permute(0, 2, 3, 1)


def init_weights(module: nn.Module) -> None:
    """Initialize the weights of one module as the paper's code does; for `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.is_meta:
        return  # nothing to fill, and PyTorch would load its compiler for that: two seconds
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        # nn.init.kaiming_normal_ would ignore groups and make depthwise weights far too small.
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


class DropPath(nn.Module):
    """Drop path (stochastic depth): drop a residual branch for random images of a batch.

    The branches of the other images are scaled by 1 / (1 - rate). In evaluation nothing is dropped.

    Args:
        rate: the probability of dropping an image's branch, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c)."""
        if not self.training or self.rate == 0:
            return branch
        kept = branch.new_empty(len(branch), 1, 1, 1).bernoulli_(1 - self.rate)
        return branch * kept.div_(1 - self.rate)

    def extra_repr(self) -> str:
        """The rate, for print(model)."""
        return f"rate={self.rate:.3f}"


class PatchEmbedding(nn.Module):
    """Overlapping patch embedding: a strided convolution and a LayerNorm."""

    def __init__(
        self, in_width: int, width: int, *, kernel: int, stride: int, norm_eps: float = NORM_EPS
    ) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_width, width, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, grid: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, ceil(h / stride), ceil(w / stride), width)."""
        tokens: Tensor = self.norm(convolve(self.projection, grid))
        return tokens


class Attention(nn.Module):
    """Efficient self-attention: keys and values are reduced `reduction` times per axis."""

    def __init__(
        self, width: int, *, heads: int, reduction: int, norm_eps: float = NORM_EPS
    ) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.reduction: nn.Conv2d | None = None
        self.reduction_norm: nn.LayerNorm | None = None
        if reduction > 1:
            self.reduction = nn.Conv2d(width, width, reduction, reduction)
            self.reduction_norm = nn.LayerNorm(width, eps=norm_eps)

    def project(self, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, h, w, c) -> queries (b, a, n, d), keys (b, a, m, d), values (b, a, m, d)."""
        source = grid
        if self.reduction is not None and self.reduction_norm is not None:
            source = self.reduction_norm(convolve(self.reduction, grid))
        query = self.query(grid).flatten(1, 2).unflatten(2, (self.heads, -1))  # (b, n, a, d)
        key_value = self.key_value(source).flatten(1, 2).unflatten(2, (2, self.heads, -1))
        key, value = key_value.permute(2, 0, 3, 1, 4)  # (b, a, m, d) each
        return query.transpose(1, 2), key, value

    def forward(self, grid: Tensor, residual: Tensor | None = None) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c); added to `residual` if given."""
        heads = attend(*self.project(grid))  # (b, a, n, d)
        mixed = heads.transpose(1, 2).reshape(grid.shape)
        if residual is not None and is_plain_layer(self.output):
            return add_linear(residual, self.output, mixed)
        out: Tensor = self.output(mixed)
        return out if residual is None else residual + out


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(b, a, n, d), (b, a, m, d), (b, a, m, d) -> (b, a, n, d): softmax attention."""
    if torch.compiler.is_compiling() or not (query.is_cpu and query.requires_grad):
        return F.scaled_dot_product_attention(query, key, value)
    b, heads, n, _ = query.shape
    parts = math.ceil(torch.get_num_threads() / (b * heads))
    if parts == 1 or n % parts:
        return F.scaled_dot_product_attention(query, key, value)
    # On a CPU the backward pass gives each head to one thread, and the first stage has one head:
    # the queries are split into `parts` images, so that every thread has work.
    query = query.unflatten(2, (parts, -1)).transpose(1, 2).flatten(0, 1)
    key, value = (
        source[:, None].expand(-1, parts, -1, -1, -1).flatten(0, 1) for source in (key, value)
    )
    mixed: Tensor = F.scaled_dot_product_attention(query, key, value).unflatten(0, (b, parts))
    return mixed.transpose(1, 2).flatten(2, 3)


class FeedForward(nn.Module):
    """Mix-FFN: linear, 3x3 depthwise convolution (the only source of position), GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, hidden)
        self.neighbours = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, grid: Tensor, residual: Tensor | None = None) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c); added to `residual` if given."""
        is_plain = is_plain_layer(self.neighbours) and is_plain_layer(self.narrow)
        if residual is not None and is_plain:
            return add_feed_forward(residual, grid, self.widen, self.neighbours, self.narrow)
        wide = convolve(self.neighbours, self.widen(grid))
        if is_plain and use_cpu_kernels(grid) and torch.is_grad_enabled():
            return gelu_linear(wide, self.narrow)
        out: Tensor = self.narrow(F.gelu(wide))
        return out if residual is None else residual + out


def drop_path_rates(rate: float, num_blocks: int) -> list[float]:
    """Return the rate of every block, rising linearly from 0 at the first to `rate` at the last."""
    return [rate * block / max(num_blocks - 1, 1) for block in range(num_blocks)]
