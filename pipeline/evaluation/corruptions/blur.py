"""Blur an image as lenses, motion and frosted glass do.

As described in arXiv:1903.12261, with other strengths. Each function takes an image (h, w, 3)
float32, 0..1, a severity 1..5 and a generator, and returns an image. Lengths are in pixels at 1024
rows.
"""

import numpy as np
from numpy.random import Generator
from scipy.ndimage import map_coordinates

from pipeline.evaluation.corruptions.kernels import (
    Floats,
    convolve,
    disk_kernel,
    gaussian_kernel,
    line_kernel,
    scale_length,
)

_DEFOCUS = (2.0, 3.5, 5.5, 8.0, 11.0)  # radius
_GAUSSIAN = (1.0, 2.0, 3.2, 4.8, 7.0)  # standard deviation
_MOTION = (7.0, 13.0, 21.0, 31.0, 44.0)  # length
_GLASS = (1.2, 2.0, 3.2, 4.8, 7.0)  # displacement of a pixel, standard deviation
_MAX_MOTION_ANGLE = np.pi / 4  # from the horizontal, radians


def defocus(image: Floats, severity: int, _random: Generator) -> Floats:
    """Blur as a lens out of focus."""
    return convolve(image, disk_kernel(scale_length(_DEFOCUS[severity - 1], len(image))))


def gaussian(image: Floats, severity: int, _random: Generator) -> Floats:
    """Gaussian blur, as of a cheap lens or of processing."""
    return convolve(image, gaussian_kernel(scale_length(_GAUSSIAN[severity - 1], len(image))))


def motion(image: Floats, severity: int, random: Generator) -> Floats:
    """Motion blur of a camera that moves while the shutter is open, mostly sideways."""
    angle = random.uniform(-_MAX_MOTION_ANGLE, _MAX_MOTION_ANGLE)
    return convolve(image, line_kernel(scale_length(_MOTION[severity - 1], len(image)), angle))


def glass(image: Floats, severity: int, random: Generator) -> Floats:
    """Frosted glass: every pixel shows a point at a small random displacement."""
    deviation = np.float32(scale_length(_GLASS[severity - 1], len(image)))
    shape = image.shape[:2]
    points = np.indices(shape, dtype=np.float32)
    points += deviation * random.standard_normal(points.shape, dtype=np.float32)
    channels = [
        map_coordinates(image[..., i], points, order=1, mode="mirror")
        for i in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)
