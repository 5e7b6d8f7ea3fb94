"""Bring photographs and label maps to another size, on the CPU and without PyTorch."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def nearest_pixels(source: int, target: int) -> NDArray[np.int64]:
    """(target,) int64: which of `source` pixels in a row lie under the centres of `target`."""
    # In whole numbers, so that every machine picks the same pixel.
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (rows, columns, 3) uint8, bilinear, antialiased where it shrinks."""
    if image.shape[:2] == size:
        return image
    rows, columns = size
    resized = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def resize_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) uint8 -> (rows, columns) uint8, each the label nearest to the new pixel's centre."""
    rows = nearest_pixels(labels.shape[0], size[0])
    columns = nearest_pixels(labels.shape[1], size[1])
    resized: NDArray[np.uint8] = labels[np.ix_(rows, columns)]
    return resized
