"""Brightness, contrast, saturation and hue: drawn on the host, applied and normalized at once."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.data.packed_frames import MEAN, STD

# Strengths of the photometric distortion: the paper's recipe has them from SSD, arXiv:1512.02325.
BRIGHTNESS = 32.0  # added or taken away; of 255
CONTRAST = (0.5, 1.5)  # multiplies
SATURATION = (0.5, 1.5)  # multiplies
HUE = 36.0  # degrees, either way

NUM_COLOR_RANDOM = 8
"""Numbers drawn for a frame: whether each of the four changes comes, and how strong each is."""

NEUTRAL_RANDOM = np.ones(NUM_COLOR_RANDOM)
"""Draws of which no change comes."""


def color_matrix(random_numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Put the four changes, each of which comes with probability 1/2, into one.

    Brightness adds and contrast multiplies, as in SSD. Saturation moves every channel away from the
    largest, or toward it, as in HSV. Hue turns the color about the gray axis, which keeps grays.
    So all four together are linear in the three channels and the largest of them.

    Args:
        random_numbers: (8,) numbers from 0 to 1: four that must be below 1/2 for brightness, contrast,
            saturation and hue to change, and four that say where in their ranges.

    Returns:
        (3, 5) float32: what each new channel, 0..255, takes of the old red, green and blue and of
        the largest of them, and what is added.
    """
    is_changed, places = random_numbers.reshape(2, 4)
    # The middle of every range, at 1/2, changes nothing.
    brightness, contrast, saturation, hue = np.where(is_changed < 0.5, places, 0.5)
    added = BRIGHTNESS * (2 * brightness - 1)
    gain, purity = _interpolate(CONTRAST, contrast), _interpolate(SATURATION, saturation)
    numbers = np.empty((3, 5), np.float32)
    numbers[:, :3] = gain * purity * hue_rotation(math.radians(HUE) * (2 * hue - 1))
    numbers[:, 3] = gain * (1 - purity)
    numbers[:, 4] = gain * added
    return numbers


def fold_normalization(matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    """(b, 3, 5), as `color_numbers` gives them -> (b, 3, 7) that `recolor` takes.

    The results are normalized as by `frames.normalize`; the last two numbers are what 0 and 255
    become.
    """
    mean, std = (255 * np.array(values)[:, None] for values in (MEAN, STD))
    bounds = np.broadcast_to([0.0, 255.0], (*matrices.shape[:-1], 2))
    normalized: NDArray[np.float64] = np.concatenate([matrices, bounds], axis=-1, dtype=np.float64)
    normalized[..., 4:] -= mean
    normalized /= std
    return normalized.astype(np.float32)


def apply_color_matrix(pixels: Tensor, matrix: Tensor, *, out: Tensor) -> None:
    """Change an image's colors and normalize them.

    Args:
        pixels: (3, h, w) float32 RGB, 0..255.
        matrix: (3, 7) float32, of `normalizing`, on the same device.
        out: (3, h, w) float32, other memory; becomes the normalized image, in which nothing is
            darker than 0 or lighter than 255.
    """
    *shares, added, black, white = matrix[..., None, None].unbind(1)  # (3, 1, 1) each
    sources = (*pixels.split(1), pixels.amax(0, keepdim=True))  # (1, h, w) each
    # Element by element: a product of matrices would be rounded to TF32 where that is allowed.
    torch.addcmul(added, shares[0], sources[0], out=out)
    for share, source in zip(shares[1:], sources[1:], strict=True):
        out.addcmul_(share, source)
    out.clamp_(black, white)


def hue_rotation(angle: float) -> NDArray[np.float64]:
    """Radians -> (3, 3) rotation of RGB about the gray axis, red toward green."""
    cross = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    cos = math.cos(angle)
    return cos * np.eye(3) + (1 - cos) / 3 + math.sin(angle) * cross


def _interpolate(ends: tuple[float, float], place: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * place
