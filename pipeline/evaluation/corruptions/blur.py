"""Blur of lenses, of motion, and of a frosted pane.

As arXiv:1903.12261 describes them, with strengths of our own. Each function takes and returns a
picture (h, w, 3) float32, 0..1, severity 1..5, and a generator. Lengths are pixels at 1024 rows.
"""

import numpy as np
from numpy.random import Generator

from pipeline.evaluation.corruptions.kernels import (
    Floats,
    convolve,
    disk_kernel,
    line_kernel,
    scale_length,
)
from pipeline.evaluation.corruptions.kernels import gaussian_kernel as bell

_DEFOCUS = (2.0, 3.5, 5.5, 8.0, 11.0)  # radius
_GAUSSIAN = (1.0, 2.0, 3.2, 4.8, 7.0)  # standard deviation
_MOTION = (7.0, 13.0, 21.0, 31.0, 44.0)  # length
_GLASS = (1.2, 2.0, 3.2, 4.8, 7.0)  # how far a pixel strays, standard deviation
_MAX_MOTION_ANGLE = np.pi / 4  # of the motion, from the horizontal


def defocus(image: Floats, severity: int, random: Generator) -> Floats:
    """A lens that is out of focus."""
    return convolve(image, disk_kernel(scale_length(_DEFOCUS[severity - 1], len(image))))


def gaussian(image: Floats, severity: int, random: Generator) -> Floats:
    """A bell-shaped blur, as of a cheap lens or of processing."""
    return convolve(image, bell(scale_length(_GAUSSIAN[severity - 1], len(image))))


def motion(image: Floats, severity: int, random: Generator) -> Floats:
    """A camera that moves while the shutter is open, mostly sideways."""
    angle = random.uniform(-_MAX_MOTION_ANGLE, _MAX_MOTION_ANGLE)
    return convolve(image, line_kernel(scale_length(_MOTION[severity - 1], len(image)), angle))


def glass(image: Floats, severity: int, random: Generator) -> Floats:
    """A frosted pane: every pixel shows a place a little beside its own."""
    from scipy.ndimage import map_coordinates

    far = np.float32(scale_length(_GLASS[severity - 1], len(image)))
    shape = image.shape[:2]
    strayed = np.indices(shape, dtype=np.float32)
    strayed += far * random.standard_normal(strayed.shape, dtype=np.float32)
    layers = [
        map_coordinates(image[..., i], strayed, order=1, mode="mirror")
        for i in range(image.shape[2])
    ]
    return np.stack(layers, axis=-1)
