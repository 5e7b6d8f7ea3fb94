"""Add the noise of sensors and transmission to an image.

As described in arXiv:1903.12261, with other strengths. Each function takes an image (h, w, 3)
float32, 0..1, a severity 1..5 and a generator, and returns an image, whose values may exceed 0..1.
"""

import numpy as np
from numpy.random import Generator

from pipeline.evaluation.corruptions.kernels import Floats

_GAUSSIAN = (0.03, 0.06, 0.10, 0.16, 0.24)  # standard deviation
_SPECKLE = (0.08, 0.15, 0.24, 0.36, 0.52)  # standard deviation, as a factor of the value
_PHOTONS = (400, 150, 60, 28, 12)  # photons of a white value
_IMPULSE = (0.005, 0.015, 0.04, 0.08, 0.15)  # share of the values that are replaced


def gaussian(image: Floats, severity: int, random: Generator) -> Floats:
    """Noise of electronics, equally strong in dark and bright areas."""
    return image + np.float32(_GAUSSIAN[severity - 1]) * _standard_normal(image, random)


def speckle(image: Floats, severity: int, random: Generator) -> Floats:
    """Noise proportional to the value."""
    return image * (1 + np.float32(_SPECKLE[severity - 1]) * _standard_normal(image, random))


def shot(image: Floats, severity: int, random: Generator) -> Floats:
    """Photon noise, strong where few photons are counted."""
    photons = np.float32(_PHOTONS[severity - 1])
    return random.poisson(image * photons).astype(np.float32) / photons


def impulse(image: Floats, severity: int, random: Generator) -> Floats:
    """Values lost in transmission: 0 or 1, separately for each channel."""
    draws = random.random(image.shape, dtype=np.float32)
    share = _IMPULSE[severity - 1]
    result = np.where(draws < share / 2, np.float32(0), image)
    return np.where(draws > 1 - share / 2, np.float32(1), result)


def _standard_normal(image: Floats, random: Generator) -> Floats:
    return random.standard_normal(image.shape, dtype=np.float32)
