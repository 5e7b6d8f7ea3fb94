"""Corrupt an image as cameras and formats do: contrast, saturation, compression, pixelation.

As described in arXiv:1903.12261, with other strengths. Each function takes an image (h, w, 3)
float32, 0..1, a severity 1..5 and a generator, which is unused here, and returns an image.
"""

import io

import numpy as np
from numpy.random import Generator
from PIL import Image

from pipeline.evaluation.corruptions.kernels import Floats

_CONTRAST = (0.70, 0.50, 0.34, 0.22, 0.12)  # remaining share
_QUALITY = (40, 25, 15, 9, 5)  # of JPEG, 1..95
_SATURATION = (1.5, 2.2, 3.2, 4.8, 8.0)  # factor
_BLOCK = (2, 3, 4, 6, 9)  # side of a square, pixels of the frame


def contrast(image: Floats, severity: int, _random: Generator) -> Floats:
    """Lower the contrast: all values move toward the mean of their channel."""
    mean = image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    return np.asarray(mean + np.float32(_CONTRAST[severity - 1]) * (image - mean))


def saturate(image: Floats, severity: int, _random: Generator) -> Floats:
    """Raise the saturation up to its limit; hue and value stay."""
    largest = image.max(axis=2, keepdims=True)
    spread = largest - image.min(axis=2, keepdims=True)
    limit = largest / np.maximum(spread, 1e-6)  # makes the smallest channel 0
    factor = np.minimum(np.float32(_SATURATION[severity - 1]), limit)
    return np.asarray(largest - (largest - image) * factor)


def jpeg(image: Floats, severity: int, _random: Generator) -> Floats:
    """JPEG compression: blocks of 8 pixels, and ringing around edges."""
    buffer = io.BytesIO()
    quality = _QUALITY[severity - 1]
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as picture:
        return np.asarray(picture, dtype=np.float32) / np.float32(255)


def pixelate(image: Floats, severity: int, _random: Generator) -> Floats:
    """Pixelate: squares of one color."""
    rows, columns = image.shape[:2]
    block = _BLOCK[severity - 1]
    small_size = (max(columns // block, 1), max(rows // block, 1))
    picture = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    small = picture.resize(small_size, Image.Resampling.BOX)
    large = small.resize((columns, rows), Image.Resampling.NEAREST)
    return np.asarray(large, dtype=np.float32) / np.float32(255)
