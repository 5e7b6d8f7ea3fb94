"""Noise of sensors and wires.

As arXiv:1903.12261 describes them, with strengths of our own. Each function takes and returns a
picture (h, w, 3) float32, 0..1 (the result may leave that), severity 1..5, and a generator.
"""

import numpy as np
from numpy.random import Generator

from pipeline.evaluation.corruptions.kernels import Floats

_GAUSSIAN = (0.03, 0.06, 0.10, 0.16, 0.24)  # standard deviation
_SPECKLE = (0.08, 0.15, 0.24, 0.36, 0.52)  # standard deviation, times the pixel
_PHOTONS = (400, 150, 60, 28, 12)  # that make white
_IMPULSE = (0.005, 0.015, 0.04, 0.08, 0.15)  # share of the values


def gaussian(image: Floats, severity: int, random: Generator) -> Floats:
    """Noise of electronics, as strong in the dark as in the light."""
    return image + np.float32(_GAUSSIAN[severity - 1]) * _standard_normal(image, random)


def speckle(image: Floats, severity: int, random: Generator) -> Floats:
    """Noise that is stronger where a pixel is brighter."""
    return image * (1 + np.float32(_SPECKLE[severity - 1]) * _standard_normal(image, random))


def shot(image: Floats, severity: int, random: Generator) -> Floats:
    """The noise of light itself, where few photons are counted."""
    photons = np.float32(_PHOTONS[severity - 1])
    return random.poisson(image * photons).astype(np.float32) / photons


def impulse(image: Floats, severity: int, random: Generator) -> Floats:
    """Values that are lost in transmission: all or nothing, a colour at a time."""
    drawn = random.random(image.shape, dtype=np.float32)
    share = _IMPULSE[severity - 1]
    struck = np.where(drawn < share / 2, np.float32(0), image)
    return np.where(drawn > 1 - share / 2, np.float32(1), struck)


def _standard_normal(image: Floats, random: Generator) -> Floats:
    return random.standard_normal(image.shape, dtype=np.float32)
