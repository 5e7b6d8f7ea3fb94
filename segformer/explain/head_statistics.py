"""Head statistics: the classes that each attention head looks at, how far, and how evenly.

Dimensions: a heads, n queries, m keys, k classes. `A[a, i, j]` is the attention weight of key j for
query i; all statistics are means over the n queries of a block, so that every head has one number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segformer.cityscapes import NUM_CLASSES
from segformer.explain.attention_maps import AttentionRecord
from segformer.explain.block_attention import BlockAttention
from segformer.explain.places import token_means


@dataclass(frozen=True)
class HeadStatistics:
    """Statistics of the heads of one block, on one image.

    With c[j, k] the share of key j's pixels that have class k, and w_j = mean_i A[a, i, j]:

    Attributes:
        stage: from 0.
        block: of the stage, from 0.
        attended: (a, k) float32, the share of each head's attention that lands on each class:
            `sum_j w_j c[j, k] / sum_jk w_j c[j, k]`. Void pixels are left out; a row sums to 1.
        key_share: (k,) float32, the share of each class among the labeled pixels of the keys:
            `sum_j c[j, k] / sum_jk c[j, k]`. Uniform attention has `attended` equal to it.
        distance: (a,) float32, mean distance from a query to its keys, in image widths:
            `mean_i sum_j A[a, i, j] |p_i - p_j| / W`, p the centers of the tokens in the image.
        entropy: (a,) float32, 0..1, relative to uniform attention:
            `mean_i -sum_j A[a, i, j] log A[a, i, j] / log m`; 1 if there is a single key.
    """

    stage: int
    block: int
    attended: Tensor
    key_share: Tensor
    distance: Tensor
    entropy: Tensor

    @property
    def lift(self) -> Tensor:
        """(a, k) `attended / key_share`: 1 for uniform attention; nan for a missing class."""
        return self.attended / self.key_share


def head_statistics(
    record: AttentionRecord, labels: Tensor, num_classes: int = NUM_CLASSES
) -> list[HeadStatistics]:
    """Compute the statistics of every head, averaged over all queries.

    Args:
        record: of the image.
        labels: (H, W) int64 train ids of the image's pixels, ground truth or prediction. Values
            outside 0..k-1, such as IGNORE, are void.
        num_classes: k.

    Returns:
        One entry per block, in the order of stages and blocks; tensors on the CPU.

    Raises:
        ValueError: if the labels have another size than the image, or no labeled pixel in a key.
    """
    if labels.shape != record.image_size:
        raise ValueError(
            f"labels are {tuple(labels.shape)}, the image is {record.image_size}; "
            "give the labels of the image, at its size"
        )
    return [
        statistics
        for stage, blocks in enumerate(record.stages)
        for statistics in _stage_statistics(
            blocks, stage, _key_classes(labels, blocks[0], num_classes), record.image_size[1]
        )
    ]
