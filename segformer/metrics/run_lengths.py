"""Confusion matrix and instance counts of a frame in one pass, over runs of equal pixels.

In a label map a pixel nearly always equals its left neighbor. A run ends where either map changes;
there are about fifty times fewer runs than pixels, and all further work is on runs.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.cityscapes import LABELS, NUM_CLASSES, train_id_table
from segformer.metrics.instances import IDS_PER_LABEL, UNSCORED, from_label_ids, weight_instances


def count_label_ids(
    predicted: NDArray[np.uint8], instance_ids: NDArray[np.uint16]
) -> tuple[Tensor, Tensor]:
    """Return the counts of the official script for one frame.

    Args:
        predicted: (h, w) label ids, the format of the test server.
        instance_ids: (h, w) of an instanceIds PNG, or the label ids if no instances are annotated.

    Returns:
        (19, 21) int64 of `confusion_matrix` with UNSCORED, and (10, 2) float64 of
        `count_instances`.

    Raises:
        ValueError: for shapes that differ, or an id out of range.
    """
    if predicted.shape != instance_ids.shape:
        raise ValueError(
            f"prediction {predicted.shape} and instance ids {instance_ids.shape} differ in shape:"
            " predict at the label's size"
        )
    ids, predictions, lengths = _find_runs(instance_ids.ravel(), predicted.ravel())
    end = IDS_PER_LABEL * len(LABELS)
    if ids.size and ids.max() >= end:
        raise ValueError(f"{ids.max()} is not an instance id; allowed are 0 to {end - 1}")
    is_present = np.bincount(ids, minlength=1) > 0
    present, rank = np.flatnonzero(is_present), np.cumsum(is_present) - 1
    counted = np.bincount(
        rank[ids] * 256 + predictions, weights=lengths, minlength=256 * len(present)
    )
    pixels = torch.from_numpy(counted.astype(np.int64).reshape(-1, 256))  # exact below 2**53
    predicted_ids = pixels.sum(0).nonzero()[:, 0]
    pixels = torch.zeros_like(pixels).index_add_(
        1, from_label_ids(predicted_ids).int(), pixels[:, predicted_ids]
    )  # (i, 256): by id present and predicted class
    has_instance = present >= IDS_PER_LABEL
    labels = np.where(has_instance, present // IDS_PER_LABEL, present)
    truth = torch.from_numpy(train_id_table()[labels]).int()
    confusion = torch.zeros(256, 256, dtype=torch.int64).index_add_(0, truth, pixels)
    return (
        confusion[:NUM_CLASSES][:, [*range(NUM_CLASSES), *UNSCORED]],
        weight_instances(present[has_instance].tolist(), pixels[torch.from_numpy(has_instance)]),
    )


def _find_runs(
    first: NDArray[Any], second: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Two maps of n pixels -> the value of each in every run, and the lengths of the runs."""
    is_end = np.ones(first.size, dtype=bool)
    is_end[:-1] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    ends = np.flatnonzero(is_end)
    return first[ends], second[ends], np.diff(ends, prepend=-1)
