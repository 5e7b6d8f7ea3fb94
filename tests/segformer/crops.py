"""Frames that show where their pixels lie, and whole batches cut from frames."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.augment import DRAWS, Augment
from segformer.colours import normalising
from segformer.frames import MEAN, STD
from segformer.render import render

H, W = 60, 120


def plain(crop: tuple[int, int], factor: float, **settings: object) -> Augment:
    """An augmentation that only scales by a known factor and cuts."""
    settings = {"max_class_share": 1.0, "flip": False, "photometric": False} | settings
    return Augment(crop, (factor, factor), **settings)


def coordinates(b: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """(b, H, W, 3) images that show their rows in red and columns in green; both as labels."""
    rows, columns = np.indices((H, W), dtype=np.uint8)
    image = np.stack([rows, columns, np.full_like(rows, 128)], axis=2)
    return image[None].repeat(b, 0), rows[None].repeat(b, 0), columns[None].repeat(b, 0)


def cut_batch(
    augment: Augment, images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int = 0
) -> tuple[Tensor, Tensor]:
    """(b, 3, *crop) and (b, *crop) of frames, the draws from a seed."""
    return cut_by(augment, images, labels, np.random.default_rng(seed).random((len(images), DRAWS)))


def cut_by(
    augment: Augment,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    draws: NDArray[np.float64] | Sequence[NDArray[np.float64]],
) -> tuple[Tensor, Tensor]:
    """(b, 3, *crop) and (b, *crop) of frames, cut by these draws."""
    cuts = [augment.cut(label, numbers) for label, numbers in zip(labels, draws, strict=True)]
    windows = [
        torch.from_numpy(image[cut.rows, cut.columns])
        for image, cut in zip(images, cuts, strict=True)
    ]
    colours = torch.from_numpy(normalising(np.stack([cut.colours for cut in cuts])))
    target = torch.from_numpy(np.stack([cut.labels for cut in cuts]))
    return render(windows, cuts, colours), target.long()


def shown(pixels: Tensor) -> Tensor:
    """Undo the normalisation: (b, 3, h, w), 0..255."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return (pixels * std + mean) * 255
