"""Head statistics of the CLS token: the classes that each head looks at, and how evenly."""

import math

import torch
from torch import Tensor

from segformer.cityscapes import NUM_CLASSES
from segformer.explain.head_statistics import HeadStatistics


def cls_statistics(
    maps: Tensor, labels: Tensor, num_classes: int = NUM_CLASSES, *, block: int
) -> HeadStatistics:
    """Compute the statistics of one row of attention, that of the CLS token.

    As `segformer.explain.head_statistics`, with the CLS token as the only query and the patches as
    the keys; the CLS token's weight on itself is left out.

    Args:
        maps: (a, h, w) attention weights, of `VisionTransformer.cls_attention` for one image.
        labels: (H, W) int64 train ids of the image, ground truth or prediction, at any size. Values
            outside 0..k-1, such as IGNORE, are void.
        num_classes: k.
        block: the number of the block, for the record.

    Returns:
        `distance` is nan: the CLS token has no place in the image. `stage` is 0.

    Raises:
        ValueError: if all labels are void.
    """
    patch_classes = _patch_classes(labels, (maps.shape[1], maps.shape[2]), num_classes)
    shares = maps.flatten(1).cpu().float()
    shares = shares / shares.sum(1, keepdim=True)
    attended = shares @ patch_classes
    n = shares.shape[1]
    entropy = torch.special.entr(shares).sum(1) / math.log(n) if n > 1 else torch.ones(len(shares))
    return HeadStatistics(
        stage=0,
        block=block,
        attended=attended / attended.sum(1, keepdim=True),
        key_share=patch_classes.sum(0) / patch_classes.sum(),
        distance=torch.full((len(shares),), math.nan),
        entropy=entropy,
    )


def _patch_classes(labels: Tensor, size: tuple[int, int], num_classes: int) -> Tensor:
    """(h * w, k) float32: the share of each patch's pixels in each class."""
    (h, w), (height, width) = size, labels.shape
    row = torch.arange(height) * h // height
    column = torch.arange(width) * w // width
    patch = row[:, None] * w + column
    classes = labels.cpu().long()
    is_labeled = (classes >= 0) & (classes < num_classes)
    if not is_labeled.any():
        raise ValueError("all pixels of the labels are void; give labels with at least one class")
    index = (patch * num_classes + classes)[is_labeled]
    counts = torch.bincount(index, minlength=h * w * num_classes).view(-1, num_classes)
    return counts / torch.bincount(patch.flatten(), minlength=h * w)[:, None].clamp(min=1)
