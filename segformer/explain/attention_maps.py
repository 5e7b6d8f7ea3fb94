"""Attention maps of the encoder: every stage, block and head from a single forward pass.

Dimensions: a heads, n queries, m keys of a block. The attention weight of key j for query i and
head a is `A[a, i, j] = softmax_j(q_i . k_j / sqrt(d))`, section 3.1 of arXiv:2105.15203; each row
of A sums to 1. Keys are the tokens of the stage after sequence reduction: one per 32 x 32 pixels in
every stage of SegFormer. Where the image does not fill the last key, that row or column of keys
does not exist.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from segformer.explain.block_attention import BlockAttention
from segformer.explain.places import Place, place_mask, token_shares
from segformer.inference.segment import eval_mode
from segformer.model.encoder import Block, Encoder, Stage
from segformer.model.layers import Attention
from segformer.model.segformer import SegFormer
from segformer.model.variants import PATCH_STRIDES


@dataclass(frozen=True)
class AttentionRecord:
    """The attention of one image in all stages, blocks and heads, computed on demand.

    It keeps the projected queries and keys, not the weights: 70 MiB for B0 at 1024 x 2048, where
    all weights would take 4 GiB; 0.7 GiB instead of 19 GiB for B5.

    Attributes:
        depths: number of blocks of each stage.
        image_size: H, W, rows and columns of the image in pixels.
        scores: (k, ceil(H / 4), ceil(W / 4)) of the same forward pass, before any softmax; None for
            an encoder without decoder.
        stages: the blocks of each stage, in order.
    """

    depths: tuple[int, ...]
    image_size: tuple[int, int]
    scores: Tensor | None
    stages: tuple[tuple[BlockAttention, ...], ...]

    def block(self, stage: int, block: int = -1) -> BlockAttention:
        """Return the attention of a block.

        Raises:
            ValueError: for a stage or block that does not exist.
        """
        if not 0 <= stage < len(self.depths):
            raise ValueError(
                f"stage {stage} does not exist; choose from 0 to {len(self.depths) - 1}"
            )
        depth = self.depths[stage]
        if not -depth <= block < depth:
            raise ValueError(
                f"stage {stage} has no block {block}; choose from 0 to {depth - 1}, "
                "or -1 for the last"
            )
        return self.stages[stage][block]

    def looks_at(self, places: Place | None, *, stage: int, block: int = -1) -> Tensor:
        """Compute where a place looks: the attention weight of each key, rows of A.

        `maps[a, j] = sum_i s_i A[a, i, j]`, with s_i the share of the place's pixels that are in
        query token i (a token covers 4, 8, 16 or 32 pixels per axis). Uniform attention is 1 / m.

        Args:
            places: (row, column) of a pixel, an (H, W) bool region, or None for the mean over all
                queries, each of the n tokens with the same share.
            stage: 0, the finest, to 3.
            block: of the stage, from 0; -1 is the last.

        Returns:
            (a, rows, columns) float32 on the key grid, 0..1; each head sums to 1.

        Raises:
            ValueError: for a stage, block or pixel that does not exist, or an empty region.
        """
        layer = self.block(stage, block)
        tokens, total = None, layer.query.shape[1]
        shares = torch.full((total,), 1 / total, device=layer.query.device)
        if places is not None:
            mask = place_mask(places, self.image_size).to(shares.device)
            shares = token_shares(mask, stride=layer.query_stride, size=layer.query_size)
            tokens = shares.nonzero()[:, 0]
        parts = [
            torch.einsum("q,aqm->am", shares[chunk], weights)
            for chunk, weights in layer.iter_weights(tokens)
        ]
        maps: Tensor = torch.stack(parts).sum(0).unflatten(1, layer.key_size)
        return maps

    def looked_at(self, places: Place | None, *, stage: int, block: int = -1) -> Tensor:
        """Compute who looks at a place: its attention weight for each query, columns of A.

        `maps[a, i] = m sum_j t_j A[a, i, j]`, with t_j the share of the place's pixels that are in
        key j: a multiple of uniform attention, 1 where the query is indifferent to the place.
        Pixels that no key covers are left out.

        Args:
            places: (row, column) of a pixel or an (H, W) bool region. The mean over all keys is 1
                for every query, whatever the network does; so None is an error.
            stage: 0, the finest, to 3.
            block: of the stage, from 0; -1 is the last.

        Returns:
            (a, rows, columns) float32 on the query grid, 0..m.

        Raises:
            ValueError: for a stage, block or pixel that does not exist, an empty region, a place
                without a key, or None.
        """
        layer = self.block(stage, block)
        if places is None:
            raise ValueError(
                "the mean over all keys is 1 for every query, since the weights of a query sum to "
                "1; give a pixel or a region, or use looks_at for the mean over all queries"
            )
        mask = place_mask(places, self.image_size).to(layer.key.device)
        shares = token_shares(mask, stride=layer.key_stride, size=layer.key_size)
        parts = [weights @ shares for _, weights in layer.iter_weights()]  # (a, queries) each
        maps: Tensor = torch.cat(parts, dim=1).unflatten(1, layer.query_size)
        return maps * len(shares)


def record_attention(model: SegFormer | Encoder, image: Tensor) -> AttentionRecord:
    """Record the queries and keys of every attention layer in one forward pass.

    Hooks on the attention layers see the inputs of the pass; `Attention.project` of the same layer
    makes queries and keys of them.

    Args:
        model: in any mode; evaluated in evaluation mode without gradients, otherwise unchanged.
        image: (3, H, W) normalized, on the model's device, 29 x 29 pixels or more.

    Raises:
        ValueError: for a batch, or an image that is too small.
    """
    encoder = model.encoder if isinstance(model, SegFormer) else model
    if image.ndim != 3:
        raise ValueError(f"image is {tuple(image.shape)}; give a single image, (3, H, W)")
    layers = [
        [cast(Block, block).attention for block in cast(Stage, stage).blocks]
        for stage in encoder.stages
    ]
    inputs: dict[Attention, BlockAttention] = {}
    handles = [
        layer.register_forward_pre_hook(_make_hook(inputs, stage))
        for stage, blocks in enumerate(layers)
        for layer in blocks
    ]
    try:
        with eval_mode(model):
            output = model(image[None])
    finally:
        for handle in handles:
            handle.remove()
    return AttentionRecord(
        depths=tuple(len(blocks) for blocks in layers),
        image_size=(image.shape[1], image.shape[2]),
        scores=output[0] if isinstance(model, SegFormer) else None,
        stages=tuple(tuple(inputs[layer] for layer in blocks) for blocks in layers),
    )


def attention_maps(
    model: SegFormer | Encoder, image: Tensor, query: Place, *, stage: int, block: int = -1
) -> Tensor:
    """Return how much a pixel, or a region on average, attends to each key.

    For more than one map of an image use `record_attention`, which runs the network once. See
    `AttentionRecord.looks_at` for arguments, result and errors.
    """
    return record_attention(model, image).looks_at(query, stage=stage, block=block)


def _make_hook(
    inputs: dict[Attention, BlockAttention], stage: int
) -> Callable[[Attention, tuple[Any, ...]], None]:
    stride = 1
    for patch_stride in PATCH_STRIDES[: stage + 1]:
        stride *= patch_stride

    def hook(layer: Attention, arguments: tuple[Any, ...]) -> None:
        grid: Tensor = arguments[0]  # (1, h, w, c)
        query, key, _ = layer.project(grid)
        reduction = 1 if layer.reduction is None else layer.reduction.stride[0]
        rows, columns = grid.shape[1:3]
        inputs[layer] = BlockAttention(
            query=query[0],
            key=key[0].clone(),  # a view of keys and values
            query_size=(rows, columns),
            key_size=(rows // reduction, columns // reduction),
            query_stride=stride,
            key_stride=stride * reduction,
        )

    return hook
