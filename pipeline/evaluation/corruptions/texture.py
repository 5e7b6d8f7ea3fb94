"""Generate the random textures of fog, frost and drops."""

import numpy as np
from numpy.random import Generator
from PIL import Image

from pipeline.evaluation.corruptions.kernels import Floats


def generate_fractal_noise(
    shape: tuple[int, int], random: Generator, *, cell: float, roughness: float
) -> Floats:
    """Sum smooth noise of many scales, each half as large and `roughness` times as strong.

    Args:
        shape: rows and columns.
        random: the generator; `roughness` does not change its draws.
        cell: size of the largest bumps, pixels.
        roughness: 0..1; 0.5 is soft, 0.8 is ragged.

    Returns:
        (rows, columns) float32 with minimum 0 and maximum 1.
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
    """Generate (rows, columns) float32, about -0.5..0.5, with smooth bumps of `cell` pixels."""
    coarse_shape = [int(np.ceil(side / cell)) + 1 for side in shape]
    values = random.random(coarse_shape, dtype=np.float32) - np.float32(0.5)
    return upsample(values, shape)


def upsample(values: Floats, shape: tuple[int, int]) -> Floats:
    """(a, b) -> (rows, columns) float32, bicubic."""
    rows, columns = shape
    image = Image.fromarray(values).resize((columns, rows), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def smoothstep(values: Floats, low: float, high: float) -> Floats:
    """Map values to 0 up to `low`, 1 from `high` on, with a smooth step between."""
    ramp = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float32)
