"""Color jitter: brightness, contrast, saturation and hue as one matrix, normalization included."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.data.packed_frames import MEAN, STD

# Ranges of the photometric distortion: those of SSD, arXiv:1512.02325, as in the paper's recipe.
BRIGHTNESS = 32.0  # added or subtracted; of 255
CONTRAST = (0.5, 1.5)  # factor
SATURATION = (0.5, 1.5)  # factor
HUE = 36.0  # degrees, in both directions

NUM_COLOR_RANDOM = 8
"""Random numbers per frame: whether each of the four changes is applied, and its strength."""

NEUTRAL_RANDOM = np.ones(NUM_COLOR_RANDOM)
"""Random numbers that change nothing."""


def color_matrix(random_numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Combine the four changes, each applied with probability 1/2, into one matrix.

    Brightness adds and contrast multiplies, as in SSD. Saturation moves every channel away from the
    largest one, or toward it, as in HSV. Hue rotates the color about the gray axis, which keeps
    grays. So the four together are linear in the three channels and the largest of them.

    Args:
        random_numbers: (8,) numbers from 0 to 1: four that apply brightness, contrast, saturation
            and hue if below 1/2, and four that are their positions within their ranges.

    Returns:
        (3, 5) float32: for each new channel, 0..255, the factors of the old red, green and blue and
        of the largest of them, and the constant added.
    """
    is_applied, positions = random_numbers.reshape(2, 4)
    # The middle of every range, at 1/2, changes nothing.
    brightness, contrast, saturation, hue = np.where(is_applied < 0.5, positions, 0.5)
    added = BRIGHTNESS * (2 * brightness - 1)
    gain, saturation_gain = _interpolate(CONTRAST, contrast), _interpolate(SATURATION, saturation)
    matrix = np.empty((3, 5), np.float32)
    matrix[:, :3] = gain * saturation_gain * hue_rotation(math.radians(HUE) * (2 * hue - 1))
    matrix[:, 3] = gain * (1 - saturation_gain)
    matrix[:, 4] = gain * added
    return matrix


def fold_normalization(matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fold the normalization of `packed_frames.normalize` into color matrices.

    Args:
        matrices: (b, 3, 5) float32 of `color_matrix`.

    Returns:
        (b, 3, 7) float32 for `apply_color_matrix`; the last two columns are the normalized 0 and
        255.
    """
    mean, std = (255 * np.array(values)[:, None] for values in (MEAN, STD))
    bounds = np.broadcast_to([0.0, 255.0], (*matrices.shape[:-1], 2))
    normalized: NDArray[np.float64] = np.concatenate([matrices, bounds], axis=-1, dtype=np.float64)
    normalized[..., 4:] -= mean
    normalized /= std
    return normalized.astype(np.float32)


def apply_color_matrix(pixels: Tensor, matrix: Tensor, *, out: Tensor) -> None:
    """Apply a color matrix to an image and normalize it.

    Args:
        pixels: (3, h, w) float32 RGB, 0..255.
        matrix: (3, 7) float32 of `fold_normalization`, on the same device.
        out: (3, h, w) float32, other memory; receives the normalized image, clamped to what 0 and
            255 become.
    """
    *factors, added, black, white = matrix[..., None, None].unbind(1)  # (3, 1, 1) each
    sources = (*pixels.split(1), pixels.amax(0, keepdim=True))  # (1, h, w) each
    # Elementwise: a matrix product would be rounded to TF32 where that is allowed.
    torch.addcmul(added, factors[0], sources[0], out=out)
    for factor, source in zip(factors[1:], sources[1:], strict=True):
        out.addcmul_(factor, source)
    out.clamp_(black, white)


def hue_rotation(angle: float) -> NDArray[np.float64]:
    """Return the (3, 3) rotation of RGB by `angle` radians about the gray axis, red to green."""
    cross = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    cos = math.cos(angle)
    return cos * np.eye(3) + (1 - cos) / 3 + math.sin(angle) * cross


def _interpolate(ends: tuple[float, float], position: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * position
