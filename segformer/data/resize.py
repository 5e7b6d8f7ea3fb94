"""Bring photographs and label maps to another size, on the CPU and without PyTorch."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def nearest_pixels(source: int, target: int) -> NDArray[np.int64]:
    """(target,) int64: which of `source` pixels in a row lie under the centers of `target`."""
    # In whole numbers, so that every machine picks the same pixel.
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)


def resize_image(
    image: NDArray[np.uint8], size: tuple[int, int], *, antialias: bool = True
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (rows, columns, 3) uint8, bilinear.

    Args:
        image: RGB.
        size: rows and columns.
        antialias: average all pixels that an output pixel covers; without it only the nearest four
            count, as in OpenCV's INTER_LINEAR, which mmcv uses.
    """
    if image.shape[:2] == size:
        return image
    rows, columns = size
    picture = Image.fromarray(image)
    if antialias:
        return np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR))
    steps = (image.shape[1] / columns, 0.0, 0.0, 0.0, image.shape[0] / rows, 0.0)
    return np.asarray(
        picture.transform((columns, rows), Image.Transform.AFFINE, steps, Image.Resampling.BILINEAR)
    )


def resize_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) uint8 -> (rows, columns) uint8, each the label nearest to the new pixel's center."""
    rows = nearest_pixels(labels.shape[0], size[0])
    columns = nearest_pixels(labels.shape[1], size[1])
    resized: NDArray[np.uint8] = labels[np.ix_(rows, columns)]
    return resized
