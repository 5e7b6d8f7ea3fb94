"""Draws classes over a photograph: their colors, and a legend of their names."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.55
"""Default opacity of the class colors."""


def draw_overlay(
    image: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    *,
    alpha: float = ALPHA,
    shown_classes: Collection[int] | None = None,
) -> NDArray[np.uint8]:
    """Blend a photograph with its classes' colors.

    Args:
        image: (h, w, 3) uint8 RGB.
        classes: (h, w) uint8, a train id per pixel.
        alpha: opacity of the colors, 0..1; the rest is the photograph.
        shown_classes: train ids to color; all others stay photograph. None: color all.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    raise NotImplementedError


def draw_legend(names: Sequence[str], class_ids: Sequence[int], columns: int) -> NDArray[np.uint8]:
    """Draw a strip of color swatches with class names, to be put below a picture.

    Args:
        names: of the classes, by train id.
        class_ids: the train ids to list.
        columns: width of the strip, in pixels.

    Returns:
        (h, columns, 3) uint8 RGB; h is as much as the names need.
    """
    raise NotImplementedError
