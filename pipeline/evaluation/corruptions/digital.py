"""What cameras and formats do to a picture: contrast, saturation, compression, few pixels.

As arXiv:1903.12261 describes them, with strengths of our own. Each function takes and returns a
picture (h, w, 3) float32, 0..1, severity 1..5, and a generator, which none of these needs.
"""

import io

import numpy as np
from numpy.random import Generator
from PIL import Image

from pipeline.evaluation.corruptions.kernels import Floats

_CONTRAST = (0.70, 0.50, 0.34, 0.22, 0.12)  # what is left of it
_QUALITY = (40, 25, 15, 9, 5)  # JPEG's
_SATURATION = (1.5, 2.2, 3.2, 4.8, 8.0)  # times as much
_BLOCK = (2, 3, 4, 6, 9)  # side, pixels of the frame itself


def contrast(image: Floats, severity: int, random: Generator) -> Floats:
    """Less contrast: all values move towards the mean of their channel."""
    mean = image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    return np.asarray(mean + np.float32(_CONTRAST[severity - 1]) * (image - mean))


def saturate(image: Floats, severity: int, random: Generator) -> Floats:
    """Louder colours: saturation grows up to its limit, hue and value stay."""
    largest = image.max(axis=2, keepdims=True)
    spread = largest - image.min(axis=2, keepdims=True)
    limit = largest / np.maximum(spread, 1e-6)  # at which the smallest channel is 0
    times = np.minimum(np.float32(_SATURATION[severity - 1]), limit)
    return np.asarray(largest - (largest - image) * times)


def jpeg(image: Floats, severity: int, random: Generator) -> Floats:
    """Compression: blocks of 8 pixels, and rings around edges."""
    buffer = io.BytesIO()
    quality = _QUALITY[severity - 1]
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as picture:
        return np.asarray(picture, dtype=np.float32) / np.float32(255)


def pixelate(image: Floats, severity: int, random: Generator) -> Floats:
    """Too few pixels, enlarged: squares of one colour."""
    rows, columns = image.shape[:2]
    block = _BLOCK[severity - 1]
    fewer = (max(columns // block, 1), max(rows // block, 1))
    picture = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    small = picture.resize(fewer, Image.Resampling.BOX)
    large = small.resize((columns, rows), Image.Resampling.NEAREST)
    return np.asarray(large, dtype=np.float32) / np.float32(255)
