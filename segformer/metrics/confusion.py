"""The confusion matrix and its scores, as the official evaluation defines them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.cityscapes import CLASSES, IGNORE

Confusion = Tensor | NDArray[np.int64]
"""(..., k, k + e) counts of pixels; rows are true classes, columns predicted ones.

The e columns after the k, usually none, are pixels predicted as no scored class: false negatives of
their true class, and false positives of none.
"""

CATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(label.category for label in CLASSES))
"""The seven categories with scored classes, in the order of their first class."""


def confusion_matrix(
    predicted: Tensor, target: Tensor, num_classes: int, *, unscored: Sequence[int] = ()
) -> Tensor:
    """Count (true class, predicted class) pairs over every labeled pixel.

    Args:
        predicted: (b, h, w) integers, a class per pixel.
        target: (b, h, w) integers, a train id per pixel; pixels at IGNORE are left out.
        num_classes: k, the number of classes scored, at most 255.
        unscored: e ids up to 255 that a prediction may contain though they are no scored class,
            such as IGNORE; each gets a column after the k. None by default: a network predicts only
            classes, so that any other id is an error.

    Returns:
        (k, k + e) int64 on the same device; rows are true classes, columns predicted ones.

    Raises:
        ValueError: for shapes that differ, more than 255 classes, or an id that is not allowed.
    """
    if predicted.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(predicted.shape)} and label {tuple(target.shape)} differ in shape; "
            "resize the scores to the label's size"
        )
    if num_classes > IGNORE:
        raise ValueError(
            f"{num_classes} classes include {IGNORE}, which is void; at most {IGNORE} are allowed"
        )
    classes = range(num_classes)
    columns = [*classes, *unscored]
    if len(set(columns)) != len(columns) or not all(0 <= column <= 255 for column in columns):
        raise ValueError(
            f"unscored is {list(unscored)}; give each id once, from {num_classes} to 255: the "
            "scored classes have their own columns"
        )
    rows = _as_bytes("label", target, num_classes)
    # All pairs of bytes in one histogram: cheaper than a search for void and invalid ids first.
    pairs = rows.int().mul_(256).add_(_as_bytes("prediction", predicted, num_classes))
    counts = pairs.flatten().bincount(minlength=256 * 256).reshape(256, 256)
    _check_ids("label", counts.sum(1), [*classes, IGNORE], num_classes)
    _check_ids("prediction", counts[:num_classes].sum(0), columns, num_classes)
    return counts[:num_classes][:, columns]


def class_iou(confusion: Confusion) -> Tensor:
    """(..., k, k + e) counts -> (..., k) float64: TP / (TP + FP + FN) of every class, 0..1.

    nan for a class that is neither labeled nor predicted, as in the official script.
    """
    counts = as_counts(confusion)
    hits = counts.diagonal(dim1=-2, dim2=-1)
    predicted = counts[..., : counts.shape[-2]].sum(-2)
    return hits.double() / (counts.sum(-1) + predicted - hits)


def mean_iou(confusion: Confusion) -> Tensor:
    """(..., k, k + e) counts -> (...) float64: the mean of `class_iou`, without nan."""
    return class_iou(confusion).nanmean(-1)


def pixel_accuracy(confusion: Confusion) -> Tensor:
    """(..., k, k + e) counts -> (...) float64: the share of labeled pixels predicted correctly."""
    counts = as_counts(confusion)
    return counts.diagonal(dim1=-2, dim2=-1).sum(-1).double() / counts.sum((-2, -1))


def category_iou(confusion: Confusion) -> Tensor:
    """(..., 19, 19 + e) counts -> (..., 7) float64: `class_iou` of CATEGORIES.

    Raises:
        ValueError: for another number of classes than that of Cityscapes.
    """
    counts = as_counts(confusion).double()  # exact below 2**53
    num_classes = counts.shape[-2]
    if num_classes != len(CLASSES):
        raise ValueError(
            f"category IoU is defined for the {len(CLASSES)} Cityscapes classes; "
            f"this confusion matrix is {tuple(counts.shape)}"
        )
    is_member = torch.tensor([[c.category == name for name in CATEGORIES] for c in CLASSES])
    membership = is_member.to(counts)  # (k, 7)
    scored, unscored = counts.tensor_split((num_classes,), dim=-1)
    columns = torch.cat(
        [scored @ membership, unscored.sum(-1, keepdim=True)], dim=-1
    )  # (..., k, 8)
    return class_iou(membership.T @ columns)


def as_counts(confusion: Confusion) -> Tensor:
    """Return a confusion matrix as a tensor.

    Raises:
        ValueError: for a shape that is not (..., k, k + e).
    """
    counts = torch.as_tensor(confusion)
    if counts.ndim < 2 or counts.shape[-1] < counts.shape[-2]:
        raise ValueError(
            f"a confusion matrix has a row per true class and at least as many columns; this one "
            f"is {tuple(counts.shape)}: use the result of confusion_matrix"
        )
    return counts


def _as_bytes(name: str, classes: Tensor, num_classes: int) -> Tensor:
    if classes.dtype != torch.uint8 and classes.numel():
        for extreme in classes.aminmax():
            if not 0 <= extreme <= 255:
                raise _class_error(name, int(extreme), num_classes)
    return classes.to(torch.uint8)


def _check_ids(name: str, pixels: Tensor, allowed: Sequence[int], num_classes: int) -> None:
    others = pixels.clone()  # (256,) pixels by id
    others[allowed] = 0
    if others.any():
        raise _class_error(name, int(others.argmax()), num_classes)


def _class_error(name: str, value: int, num_classes: int) -> ValueError:
    return ValueError(
        f"a {name} contains the class {value}; allowed are 0 to {num_classes - 1}, and {IGNORE} "
        "for void in a label"
    )
