"""The attention of one block for one image: its projected queries and keys, and weights in chunks.

Dimensions: a heads, n queries (tokens), m keys, d channels per head.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK_WEIGHTS = 2**19
"""Attention weights per chunk of queries: 2 MiB in float32, which bounds the memory and fits into a
CPU's cache."""


@dataclass(frozen=True)
class BlockAttention:
    """Queries and keys of one attention layer, for one image.

    Attributes:
        query: (a, n, d), the projected queries, row by row of the query grid.
        key: (a, m, d), the projected keys, row by row of the key grid.
        query_size: rows and columns of the query grid; n is their product.
        key_size: rows and columns of the key grid; m is their product.
        query_stride: rows and columns of image pixels that a query token covers.
        key_stride: rows and columns of image pixels that a key covers.
    """

    query: Tensor
    key: Tensor
    query_size: tuple[int, int]
    key_size: tuple[int, int]
    query_stride: int
    key_stride: int

    def iter_logits(self, tokens: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Compute q k^T / sqrt(d) for all heads, in chunks of queries of bounded memory.

        Args:
            tokens: (q,) int64, the queries among the n; None for all of them in order.

        Yields:
            (queries,) int64, the tokens of a chunk, and their (a, queries, m) float32 logits, which
            the caller may overwrite.
        """
        heads, n, d = self.query.shape
        if tokens is None:
            tokens = torch.arange(n, device=self.query.device)
        keys = self.key.float().transpose(1, 2) / math.sqrt(d)  # (a, d, m)
        for chunk in tokens.split(max(_CHUNK_WEIGHTS // (heads * keys.shape[2]), 1)):
            yield chunk, self.query[:, chunk].float() @ keys

    def iter_weights(self, tokens: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """As `iter_logits`, but yield the softmax weights, 0..1, which sum to 1 over the keys."""
        for chunk, logits in self.iter_logits(tokens):
            yield chunk, logits.softmax(2)
