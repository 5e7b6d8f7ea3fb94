"""Attention maps of the encoder, for any stage, block and head and any query pixels.

The weights come from the network's own attention function, with an identity matrix as values: no
part of the network is implemented a second time.
"""

import math
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from segformer.inference.segment import eval_mode
from segformer.model.encoder import Block, Encoder, Stage
from segformer.model.layers import Attention, attend
from segformer.model.segformer import SegFormer
from segformer.model.variants import PATCH_STRIDES

_QUERY_CHUNK = 1024
"""Queries per step, which bounds the memory: each has a weight for every key."""


def attention_maps(
    model: SegFormer | Encoder,
    image: Tensor,
    query: tuple[int, int] | Tensor,
    *,
    stage: int,
    block: int = -1,
) -> Tensor:
    """Return how much a pixel, or a region on average, attends to each key.

    Args:
        model: in any mode; evaluated in evaluation mode without gradients, otherwise unchanged.
        image: (3, H, W) normalized, on the model's device.
        query: row and column of a pixel, or (H, W) bool, the pixels of a region. Each token in the
            region is weighted by the number of its pixels.
        stage: 0, the finest, to 3.
        block: of the stage, from 0; -1 is the last one.

    Returns:
        (a, rows, columns) float32: the attention weight, 0..1, of each key, for each head; the
        weights of a head sum to 1. The keys are the tokens of the stage after sequence reduction.

    Raises:
        ValueError: for a stage, block or pixel that does not exist, an empty region, or a batch.
    """
    encoder = model.encoder if isinstance(model, SegFormer) else model
    if image.ndim != 3:
        raise ValueError(f"image is {tuple(image.shape)}; give a single image, (3, H, W)")
    _check_block(encoder, stage, block)
    region = _query_mask(query, image)
    with eval_mode(encoder):
        attention, grid = attention_input(encoder, image[None], stage=stage, block=block)
        shares = _token_shares(region, math.prod(PATCH_STRIDES[: stage + 1]), grid.shape[1:3])
        tokens = shares.nonzero()[:, 0]
        weights = torch.zeros((), device=image.device)
        for chunk in tokens.split(_QUERY_CHUNK):
            rows = attention_weights(attention, grid, chunk)[0]  # (a, queries, rows, columns)
            weights = weights + torch.einsum("q,aqhw->ahw", shares[chunk], rows.float())
        return weights


def attention_input(
    encoder: Encoder, images: Tensor, *, stage: int, block: int
) -> tuple[Attention, Tensor]:
    """Return the attention layer of a block and its input (b, h, w, c) for images (b, 3, H, W)."""
    stages = [cast(Stage, module) for module in encoder.stages]
    blocks = [cast(Block, module) for module in stages[stage].blocks]
    target = blocks[block]
    grid = encoder.to_channels_last(images)
    for module in (*stages[:stage], stages[stage].patch, *blocks[: blocks.index(target)]):
        grid = module(grid)
    return target.attention, target.attention_norm(grid)


def attention_weights(attention: Attention, grid: Tensor, tokens: Tensor | None = None) -> Tensor:
    """Return the softmax weights of an attention layer.

    Args:
        attention: the layer, with a sequence reduction of r per axis.
        grid: (b, h, w, c), the input of the layer.
        tokens: (q,) int64, the queries among the h * w tokens, row by row; None for all.

    Returns:
        (b, a, q, h // r, w // r): the weight of each key, for each head and query; they sum to 1.
    """
    query, key, _ = attention.project(grid)
    if tokens is not None:
        query = query[:, :, tokens]
    b, heads, m, _ = key.shape
    identity = torch.eye(m, dtype=key.dtype, device=key.device).expand(b, heads, m, m)
    weights = attend(query, key, identity)  # (b, a, q, m)
    reduction = 1 if attention.reduction is None else attention.reduction.stride[0]
    return weights.reshape(*weights.shape[:3], *(side // reduction for side in grid.shape[1:3]))


def _check_block(encoder: Encoder, stage: int, block: int) -> None:
    if not 0 <= stage < len(encoder.stages):
        raise ValueError(
            f"stage {stage} does not exist; choose from 0 to {len(encoder.stages) - 1}"
        )
    depth = encoder.variant.depths[stage]
    if not -depth <= block < depth:
        raise ValueError(
            f"stage {stage} of {encoder.variant.name} has no block {block}; "
            f"choose from 0 to {depth - 1}"
        )


def _query_mask(query: tuple[int, int] | Tensor, image: Tensor) -> Tensor:
    """(H, W) bool: the query pixels."""
    height, width = image.shape[1:]
    if isinstance(query, Tensor):
        if query.shape != (height, width) or not query.any():
            raise ValueError(
                f"the region is {tuple(query.shape)} with {int(query.count_nonzero())} pixels; "
                f"give a ({height}, {width}) mask with at least one"
            )
        return query.to(image.device).bool()
    row, column = query
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(
            f"pixel {row}, {column} is not in the image; it has {height} rows, {width} columns"
        )
    region = torch.zeros(height, width, dtype=torch.bool, device=image.device)
    region[row, column] = True
    return region


def _token_shares(region: Tensor, stride: int, size: torch.Size) -> Tensor:
    """(H, W) bool -> (rows * columns of size,): the share of each token; they sum to 1.

    A token covers `stride` rows and columns of pixels, as in the resizing of the decoder.
    """
    rows, columns = size
    height, width = region.shape
    padded = F.pad(region.float(), (0, columns * stride - width, 0, rows * stride - height))
    pixels = F.avg_pool2d(padded[None], stride)[0].flatten()
    return pixels / pixels.sum()
