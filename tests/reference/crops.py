"""Frames whose pixels show their coordinates, and augmented batches of frames."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.data.augment import NUM_RANDOM, Augment
from segformer.data.color_jitter import fold_normalization
from segformer.data.packed_frames import MEAN, STD
from segformer.data.render import render

H, W = 60, 120


def make_augment(crop: tuple[int, int], factor: float, **settings: object) -> Augment:
    """Make an augmentation that only scales by a given factor and crops."""
    settings = {"max_class_share": 1.0, "flip": False, "photometric": False} | settings
    return Augment(crop, (factor, factor), **settings)


def make_coordinate_frames(
    b: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Make (b, H, W, 3) images with rows in red and columns in green; and both as labels."""
    rows, columns = np.indices((H, W), dtype=np.uint8)
    image = np.stack([rows, columns, np.full_like(rows, 128)], axis=2)
    return image[None].repeat(b, 0), rows[None].repeat(b, 0), columns[None].repeat(b, 0)


def augment_batch(
    augment: Augment, images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Augment frames with random numbers of a seed: (b, 3, *crop) and (b, *crop)."""
    return augment_with(
        augment, images, labels, np.random.default_rng(seed).random((len(images), NUM_RANDOM))
    )


def augment_with(
    augment: Augment,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    random_numbers: NDArray[np.float64] | Sequence[NDArray[np.float64]],
) -> tuple[Tensor, Tensor]:
    """Augment frames with these random numbers: (b, 3, *crop) and (b, *crop)."""
    plans = [
        augment.plan(label, numbers) for label, numbers in zip(labels, random_numbers, strict=True)
    ]
    windows = [
        torch.from_numpy(image[plan.rows, plan.columns])
        for image, plan in zip(images, plans, strict=True)
    ]
    colors = torch.from_numpy(fold_normalization(np.stack([plan.color_matrix for plan in plans])))
    target = torch.from_numpy(np.stack([plan.labels for plan in plans]))
    return render(windows, plans, colors), target.long()


def denormalize(pixels: Tensor) -> Tensor:
    """Undo the normalization: (b, 3, h, w), 0..255."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return (pixels * std + mean) * 255
