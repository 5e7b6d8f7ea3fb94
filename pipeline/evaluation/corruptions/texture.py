"""Textures of nature: what fog, frost and drops are drawn with."""

import numpy as np
from numpy.random import Generator
from PIL import Image

from pipeline.evaluation.corruptions.kernels import Floats


def generate_fractal_noise(
    shape: tuple[int, int], random: Generator, *, cell: float, roughness: float
) -> Floats:
    """Draw smooth noise of many sizes, each half as large and `roughness` times as strong.

    Args:
        shape: rows and columns.
        random: draws the same clouds, however rough.
        cell: size of the largest clouds, pixels.
        roughness: 0..1; 0.5 is billowing, 0.8 is ragged.

    Returns:
        (rows, columns) float32 from 0 to 1, both reached.
    """
    total = np.zeros(shape, dtype=np.float32)
    strength = 1.0
    while cell >= 1:
        total += np.float32(strength) * generate_value_noise(shape, random, cell)
        cell /= 2
        strength *= roughness
    low, high = total.min(), total.max()
    return np.asarray((total - low) / max(high - low, 1e-6), dtype=np.float32)


def generate_value_noise(shape: tuple[int, int], random: Generator, cell: float) -> Floats:
    """(rows, columns) float32 -0.5..0.5 or so: smooth noise with bumps of `cell` pixels."""
    coarse = [int(np.ceil(side / cell)) + 1 for side in shape]
    drawn = random.random(coarse, dtype=np.float32) - np.float32(0.5)
    return upsample(drawn, shape)


def upsample(values: Floats, shape: tuple[int, int]) -> Floats:
    """(a, b) -> (rows, columns) float32, bicubic."""
    rows, columns = shape
    image = Image.fromarray(values).resize((columns, rows), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def smoothstep(values: Floats, low: float, high: float) -> Floats:
    """0 up to `low`, 1 from `high` on, and an S between."""
    ramp = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float32)
