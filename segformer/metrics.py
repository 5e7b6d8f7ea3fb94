"""Scores of a segmentation from its confusion matrix, as the official evaluation defines them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.cityscapes import CLASSES, IGNORE

Confusion = Tensor | NDArray[np.int64]
"""(..., k, k) counts of pixels; rows are true classes, columns predicted ones."""

CATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(label.category for label in CLASSES))
"""The seven categories with a scored class, in the order of their first class."""


def confusion_matrix(predicted: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Count (true class, predicted class) pairs over every labelled pixel.

    Args:
        predicted: (b, h, w) integers, a class per pixel.
        target: (b, h, w) integers, a train id per pixel; pixels at IGNORE are left out.
        num_classes: k, the number of classes scored.

    Returns:
        (k, k) int64 on the same device; rows are true classes, columns predicted ones.

    Raises:
        ValueError: for shapes that differ, or a class that is not 0..k-1.
    """
    if predicted.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(predicted.shape)} and label {tuple(target.shape)} differ in shape; "
            "resize the scores to the label's size"
        )
    is_labelled = target != IGNORE
    rows, columns = target[is_labelled].long(), predicted[is_labelled].long()
    for name, classes in (("label", rows), ("prediction", columns)):
        if classes.numel() and (classes.min() < 0 or classes.max() >= num_classes):
            raise ValueError(
                f"a {name} holds the class {_worst(classes, num_classes)}; "
                f"allowed are 0 to {num_classes - 1}, and {IGNORE} for void in a label"
            )
    pairs = rows * num_classes + columns
    return pairs.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(confusion: Confusion) -> Tensor:
    """(..., k, k) counts -> (..., k) float64: TP / (TP + FP + FN), 0..1, of every class.

    nan for a class that occurs neither in truth nor in prediction, as in the official script.
    """
    counts = torch.as_tensor(confusion)
    hits = counts.diagonal(dim1=-2, dim2=-1)
    return hits.double() / (counts.sum(-1) + counts.sum(-2) - hits)


def mean_iou(confusion: Confusion) -> Tensor:
    """(..., k, k) counts -> (...) float64: the mean of `class_iou` over the classes not nan."""
    return class_iou(confusion).nanmean(-1)


def pixel_accuracy(confusion: Confusion) -> Tensor:
    """(..., k, k) counts -> (...) float64: the share of labelled pixels that are right, 0..1."""
    counts = torch.as_tensor(confusion)
    return counts.diagonal(dim1=-2, dim2=-1).sum(-1).double() / counts.sum((-2, -1))


def category_iou(confusion: Confusion) -> Tensor:
    """(..., 19, 19) counts -> (..., 7) float64: `class_iou` with each of CATEGORIES as one class.

    Raises:
        ValueError: for another number of classes than Cityscapes has.
    """
    counts = torch.as_tensor(confusion)
    if counts.shape[-2:] != (len(CLASSES), len(CLASSES)):
        raise ValueError(
            f"category IoU is for the {len(CLASSES)} Cityscapes classes; "
            f"this confusion is {tuple(counts.shape)}"
        )
    is_member = torch.tensor([[c.category == name for name in CATEGORIES] for c in CLASSES])
    member = is_member.to(counts.device, torch.float64)  # (k, 7); exact for counts below 2**53
    return class_iou(member.T @ counts.double() @ member)


def _worst(classes: Tensor, num_classes: int) -> int:
    is_wrong = (classes < 0) | (classes >= num_classes)
    return int(classes[is_wrong][0])
