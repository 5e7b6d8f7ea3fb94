"""Confusion and instances of a frame at once, from PNGs: counted by runs of equal pixels.

In a label map a pixel is nearly always what its left neighbor is. Where either map changes, a run
ends; there are some fifty times fewer runs than pixels, and everything else is done on them.
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
    """Count what the official script counts on a frame.

    Args:
        predicted: (h, w) label ids, as the test server takes them.
        instance_ids: (h, w) as an instanceIds PNG holds them, or the label ids where no instances
            are annotated.

    Returns:
        (19, 21) int64 as `confusion_matrix` with UNSCORED, and (10, 2) float64 as
        `count_instances`.

    Raises:
        ValueError: for shapes that differ, or an id that is none.
    """
    if predicted.shape != instance_ids.shape:
        raise ValueError(
            f"prediction {predicted.shape} and instance ids {instance_ids.shape} differ in shape:"
            " predict at the label's size"
        )
    ids, found, lengths = _find_runs(instance_ids.ravel(), predicted.ravel())
    if ids.size and ids.max() >= IDS_PER_LABEL * len(LABELS):
        raise ValueError(f"{ids.max()} is not an instance id; its label would be none")
    occurs = np.bincount(ids, minlength=1) > 0
    present, rank = np.flatnonzero(occurs), np.cumsum(occurs) - 1
    counted = np.bincount(rank[ids] * 256 + found, weights=lengths, minlength=256 * len(present))
    pixels = torch.from_numpy(counted.astype(np.int64).reshape(-1, 256))  # exact below 2**53
    told = pixels.sum(0).nonzero()[:, 0]
    pixels = torch.zeros_like(pixels).index_add_(
        1, from_label_ids(told).int(), pixels[:, told]
    )  # of every id present, as each class
    single = present >= IDS_PER_LABEL
    labels = np.where(single, present // IDS_PER_LABEL, present)
    truth = torch.from_numpy(train_id_table()[labels]).int()
    confusion = torch.zeros(256, 256, dtype=torch.int64).index_add_(0, truth, pixels)
    return (
        confusion[:NUM_CLASSES][:, [*range(NUM_CLASSES), *UNSCORED]],
        weight_instances(present[single].tolist(), pixels[torch.from_numpy(single)]),
    )


def _find_runs(
    one: NDArray[Any], other: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Two maps of n pixels -> what each holds in every run, and the runs' lengths."""
    is_end = np.ones(one.size, dtype=bool)
    is_end[:-1] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    ends = np.flatnonzero(is_end)
    return one[ends], other[ends], np.diff(ends, prepend=-1)
