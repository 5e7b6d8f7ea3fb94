"""Head statistics: the classes that each attention head looks at, how far, and how evenly.

Dimensions: a heads, n queries, m keys, k classes. `A[a, i, j]` is the attention weight of key j for
query i; all statistics are means over the n queries of a block, so that every head has one number.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from segformer.cityscapes import NUM_CLASSES
from segformer.explain.attention_maps import AttentionRecord
from segformer.explain.block_attention import BlockAttention


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
    results = []
    for stage, blocks in enumerate(record.stages):
        layer = blocks[0]  # the grids of a stage's blocks are the same
        key_classes = _key_classes(labels, layer, num_classes)
        for block, layer in enumerate(blocks):
            weights, distance, entropy = _mean_over_queries(layer)
            attended = weights.cpu() @ key_classes
            results.append(
                HeadStatistics(
                    stage=stage,
                    block=block,
                    attended=attended / attended.sum(1, keepdim=True),
                    key_share=key_classes.sum(0) / key_classes.sum(),
                    distance=distance.cpu() / record.image_size[1],
                    entropy=entropy.cpu(),
                )
            )
    return results


def _key_classes(labels: Tensor, layer: BlockAttention, num_classes: int) -> Tensor:
    """(m, k) float32 on the CPU: the share of each key's pixels in each class."""
    (rows, columns), stride = layer.key_size, layer.key_stride
    covered = labels[: rows * stride, : columns * stride].cpu().long()
    row = torch.arange(len(covered))[:, None] // stride
    column = torch.arange(covered.shape[1]) // stride
    is_labeled = (covered >= 0) & (covered < num_classes)
    index = ((row * columns + column) * num_classes + covered)[is_labeled]
    if not len(index):
        raise ValueError(
            f"all pixels of the labels are void in rows 0 to {rows * stride - 1} and columns 0 to "
            f"{columns * stride - 1}, which the keys cover; give labels with at least one class"
        )
    counts = torch.bincount(index, minlength=rows * columns * num_classes)
    return counts.view(-1, num_classes) / stride**2


def _mean_over_queries(layer: BlockAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean weights (a, m), mean distance (a,) in pixels, mean relative entropy (a,)."""
    heads, m, _ = layer.key.shape
    weights_sum = torch.zeros(heads, m, device=layer.key.device)
    distance_sum, entropy_sum = (torch.zeros(heads, device=layer.key.device) for _ in range(2))
    for tokens, logits in layer.iter_logits():
        weights = logits.softmax(2)
        weights_sum += weights.sum(1)
        # -sum A log A = log Z - sum A logit; the largest weight is exp(largest logit) / Z.
        normalizer = logits.amax(2) - weights.amax(2).log()
        entropy_sum += (normalizer - logits.mul_(weights).sum(2)).sum(1)
        distance_sum += weights.mul_(_key_distances(layer, tokens)).sum((1, 2))
    n = layer.query.shape[1]
    entropy = entropy_sum / (n * math.log(m)) if m > 1 else torch.ones_like(entropy_sum)
    return weights_sum / n, distance_sum / n, entropy


def _key_distances(layer: BlockAttention, tokens: Tensor) -> Tensor:
    """(queries,) tokens -> (queries, m): distance of the centers of token and key, in pixels."""
    columns = layer.query_size[1]
    squares = []
    for position, num_keys in zip(
        (tokens // columns, tokens % columns), layer.key_size, strict=True
    ):
        keys = torch.arange(num_keys, device=tokens.device)
        offset = (position[:, None] + 0.5) * layer.query_stride - (keys + 0.5) * layer.key_stride
        squares.append(offset.square())
    rows_squared, columns_squared = squares
    return (rows_squared[:, :, None] + columns_squared[:, None]).sqrt_().flatten(1)
