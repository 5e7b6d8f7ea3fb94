"""Boundary IoU (arXiv:2103.16562): intersection over union of the pixels along the contours."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from segformer.cityscapes import IGNORE

DISTANCE = 3
"""Width of a boundary inside its mask, in pixels of a frame with REFERENCE_ROWS rows."""

REFERENCE_ROWS = 1024
"""Rows of a Cityscapes frame. The authors of the paper take 0.5 % of its diagonal, 11 pixels, for
the masks they compare; at 3 pixels the metric measures the contours alone."""


def scaled_distance(rows: int) -> int:
    """Return DISTANCE for a frame of `rows` rows, in proportion: rounded, and at least 1."""
    return max(1, round(DISTANCE * rows / REFERENCE_ROWS))


def boundary_counts(
    predicted: Tensor, target: Tensor, num_classes: int, *, distance: int | None = None
) -> Tensor:
    """Count intersection and union of the true and the predicted boundaries of every class.

    The boundary of a mask is removed by an erosion by a square: its pixels for which a pixel within
    d rows and columns is outside the mask or the image. Void is in no mask, neither true nor
    predicted: nothing is counted there, whatever is predicted.

    Args:
        predicted: (b, h, w) integers, a class per pixel, or IGNORE for none.
        target: (b, h, w) integers, a train id per pixel, or IGNORE for void.
        num_classes: k.
        distance: d, in pixels; None for `scaled_distance` of h.

    Returns:
        (k, 2) int64 on the same device: pixels in the intersection and in the union. A set of
        frames is scored by the sum of its counts. Needs about 25 bytes per pixel of one frame.

    Raises:
        ValueError: for shapes that differ, an id that is no class, or a distance below 1.
    """
    if predicted.shape != target.shape or target.ndim != 3:
        raise ValueError(
            f"prediction {tuple(predicted.shape)} and label {tuple(target.shape)} must have "
            "the same shape (b, h, w); resize the scores to the label's size"
        )
    width = scaled_distance(target.shape[1]) if distance is None else distance
    if width < 1:
        raise ValueError(f"distance is {width}; it must be at least 1 pixel")
    side = num_classes + 1  # the last row and column: pixels in no boundary
    counts = torch.zeros(num_classes, 2, dtype=torch.int64, device=target.device)
    for classes, labels in zip(predicted, target, strict=True):
        is_void = labels == IGNORE
        true_masks = _class_masks("label", labels, is_void, num_classes)
        predicted_masks = _class_masks(
            "prediction", classes, is_void | (classes == IGNORE), num_classes
        )
        rows, columns = (
            _boundary_classes(masks, num_classes, width) for masks in (true_masks, predicted_masks)
        )
        pairs = (rows * side + columns).flatten().bincount(minlength=side**2).reshape(side, side)
        common = pairs.diagonal()
        union = pairs.sum(0) + pairs.sum(1) - common
        counts += torch.stack([common, union], dim=1)[:num_classes]
    return counts


def boundary_iou(counts: ArrayLike | Tensor) -> Tensor:
    """(..., k, 2) sums of `boundary_counts` -> (..., k) float64, 0..1; nan for an absent class."""
    common, union = torch.as_tensor(counts).unbind(-1)
    return common.double() / union


def _class_masks(name: str, classes: Tensor, is_void: Tensor, num_classes: int) -> Tensor:
    """(h, w) -> (h, w) int16: 0..k-1, and k where `is_void`."""
    if classes.numel():
        for extreme in classes.masked_fill(is_void, 0).aminmax():
            if not 0 <= extreme < num_classes:
                raise ValueError(
                    f"a {name} contains the class {int(extreme)}; allowed are 0 to "
                    f"{num_classes - 1} and {IGNORE}"
                )
    return classes.to(torch.int16).masked_fill(is_void, num_classes)


def _boundary_classes(masks: Tensor, num_classes: int, distance: int) -> Tensor:
    """(h, w) -> (h, w) int32: the class of a boundary pixel, k for all others."""
    # All masks at once: a window is inside a mask if its largest and smallest id are equal.
    padded = F.pad(masks, (distance,) * 4, value=-1)
    largest, smallest = (
        _sliding_extreme(extreme, padded, 2 * distance + 1)
        for extreme in (torch.maximum, torch.minimum)
    )
    return masks.masked_fill(largest == smallest, num_classes).int()


def _sliding_extreme(
    extreme: Callable[[Tensor, Tensor], Tensor], values: Tensor, width: int
) -> Tensor:
    """(h + width - 1, w + width - 1) -> (h, w): the extreme of every window width x width."""
    for axis in (0, 1):
        covered = 1
        while covered < width:
            step = min(covered, width - covered)  # doubles the covered width: log2(width) passes
            length = values.shape[axis] - step
            values = extreme(values.narrow(axis, 0, length), values.narrow(axis, step, length))
            covered += step
    return values
