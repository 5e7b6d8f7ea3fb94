"""Frames that show where their pixels lie, and whole batches cut from frames."""

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
    """An augmentation that only scales by a known factor and cuts."""
    settings = {"max_class_share": 1.0, "flip": False, "photometric": False} | settings
    return Augment(crop, (factor, factor), **settings)


def make_coordinate_frames(
    b: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """(b, H, W, 3) images that show their rows in red and columns in green; both as labels."""
    rows, columns = np.indices((H, W), dtype=np.uint8)
    image = np.stack([rows, columns, np.full_like(rows, 128)], axis=2)
    return image[None].repeat(b, 0), rows[None].repeat(b, 0), columns[None].repeat(b, 0)


def augment_batch(
    augment: Augment, images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int = 0
) -> tuple[Tensor, Tensor]:
    """(b, 3, *crop) and (b, *crop) of frames, the draws from a seed."""
    return augment_with(
        augment, images, labels, np.random.default_rng(seed).random((len(images), NUM_RANDOM))
    )


def augment_with(
    augment: Augment,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    random_numbers: NDArray[np.float64] | Sequence[NDArray[np.float64]],
) -> tuple[Tensor, Tensor]:
    """(b, 3, *crop) and (b, *crop) of frames, cut by these draws."""
    cuts = [
        augment.plan(label, numbers) for label, numbers in zip(labels, random_numbers, strict=True)
    ]
    windows = [
        torch.from_numpy(image[cut.rows, cut.columns])
        for image, cut in zip(images, cuts, strict=True)
    ]
    colors = torch.from_numpy(fold_normalization(np.stack([cut.color_matrix for cut in cuts])))
    target = torch.from_numpy(np.stack([cut.labels for cut in cuts]))
    return render(windows, cuts, colors), target.long()


def denormalize(pixels: Tensor) -> Tensor:
    """Undo the normalization: (b, 3, h, w), 0..255."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return (pixels * std + mean) * 255
