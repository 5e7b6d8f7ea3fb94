"""Draws classes over a photograph: their colors, and a legend of their names."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segformer.cityscapes import palette

ALPHA = 0.55
"""Default opacity of the class colors."""

_ONE = 256  # fixed point: fast on whole films, and at most one gray level from the exact blend
_BACKGROUND, _TEXT = (24, 24, 24), (235, 235, 235)


@dataclass(frozen=True)
class OverlayStyle:
    """How predictions are drawn.

    Attributes:
        alpha: opacity of the class colors, 0..1.
        shown_classes: train ids to color; all others stay photograph. None: color all.
        legend: names of the classes, by train id, for a strip below the picture; None: no strip.
    """

    alpha: float = ALPHA
    shown_classes: tuple[int, ...] | None = None
    legend: tuple[str, ...] | None = None

    def legend_rows(self, columns: int) -> int:
        """Rows that the legend adds below a picture of so many columns."""
        return 0 if self.legend is None else self._legend_strip(columns).shape[0]

    def draw(self, image: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw the classes, (h, w) uint8 train ids, over (h, w, 3) uint8 RGB, and the legend."""
        overlay = draw_overlay(image, classes, alpha=self.alpha, shown_classes=self.shown_classes)
        if self.legend is None:
            return overlay
        return np.concatenate([overlay, self._legend_strip(image.shape[1])])

    def _legend_strip(self, columns: int) -> NDArray[np.uint8]:
        names = self.legend or ()
        ids = self.shown_classes if self.shown_classes is not None else range(len(names))
        return _cached_legend(names, tuple(ids), columns)


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
    opacity = np.full(256, round(alpha * _ONE), dtype=np.uint16)
    if shown_classes is not None:
        opacity[np.setdiff1d(np.arange(256), list(shown_classes))] = 0
    tint = palette().astype(np.uint16) * opacity[:, None]
    tint += (opacity[:, None] > 0) * np.uint16(_ONE // 2)  # to round, not to truncate
    blended = image.astype(np.uint16)
    if shown_classes is None:
        blended *= np.uint16(_ONE) - opacity[0]
    else:
        blended *= (np.uint16(_ONE) - opacity)[classes][..., None]
    # At most 256 * 255 + 128: no overflow.
    blended += tint.take(classes, axis=0)
    blended >>= np.uint16(8)
    return blended.astype(np.uint8)


def draw_legend(names: Sequence[str], class_ids: Sequence[int], columns: int) -> NDArray[np.uint8]:
    """Draw a strip of color swatches with class names, to be put below a picture.

    Args:
        names: of the classes, by train id.
        class_ids: the train ids to list.
        columns: width of the strip, in pixels.

    Returns:
        (h, columns, 3) uint8 RGB; h is even, and as much as the names need.
    """
    size = int(np.clip(columns / 45, 10, 28))
    font = ImageFont.load_default(size)
    cell = round(max(font.getlength(names[k]) for k in class_ids) + 2.4 * size)
    per_row = max(1, columns // cell)
    line = round(1.5 * size)
    num_lines = -(-len(class_ids) // per_row)
    rows = num_lines * line + size // 2
    strip = Image.new("RGB", (columns, rows + rows % 2), _BACKGROUND)
    pen = ImageDraw.Draw(strip)
    for index, k in enumerate(class_ids):
        left = (index % per_row) * (columns // per_row) + size // 2
        middle = (index // per_row) * line + line / 2 + size // 4
        box = (left, middle - size * 0.4, left + size, middle + size * 0.4)
        pen.rectangle(box, fill=tuple(map(int, palette()[k])), outline=_TEXT)
        pen.text((left + 1.5 * size, middle), names[k], fill=_TEXT, font=font, anchor="lm")
    return np.asarray(strip)


@lru_cache(maxsize=8)
def _cached_legend(
    names: tuple[str, ...], class_ids: tuple[int, ...], columns: int
) -> NDArray[np.uint8]:
    return draw_legend(names, class_ids, columns)
