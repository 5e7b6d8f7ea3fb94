"""Panels of a wall: a photograph or a map over it in gray, with the query marked."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.explain.scale import ColorScale
from segformer.data.resize import resize_image, resize_labels

Interpolation = Literal["nearest", "bilinear"]
"""How a map is enlarged: a block for each token, or smoothly between their centers."""

Mark = tuple[float, float] | NDArray[np.bool_]
"""The query: a place, its distances from the top and the left in heights and widths of the
photograph; or a region, (h, w) bool, stretched over the photograph."""

Size = tuple[int, int]

# Contrast is reduced, so that the colors of a map can be compared everywhere.
_DARKEST, _BRIGHTEST = 52, 178
MIDDLE_GRAY = (_DARKEST + _BRIGHTEST) // 2
"""The gray of a photograph's middle gray below a map."""

_LINE, _OUTLINE = (255, 255, 255), (0, 0, 0)


def draw_gray(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB -> (h, w) uint8, with the contrast reduced for maps above it."""
    luma = np.asarray(Image.fromarray(photograph).convert("L"), dtype=np.uint16)
    return (_DARKEST + luma * (_BRIGHTEST - _DARKEST) // 255).astype(np.uint8)


def resize_map(
    values: NDArray[np.floating],
    size: Size,
    *,
    coverage: tuple[float, float] = (1.0, 1.0),
    interpolation: Interpolation = "nearest",
) -> NDArray[np.float32]:
    """Enlarge a map to a panel.

    Args:
        values: (rows, columns).
        size: rows and columns of the panel, in pixels.
        coverage: of the panel by the map, as in `HeadMaps`.
        interpolation: between the centers of the map's tokens, or none.

    Returns:
        (*size,) float32; nan where the panel is not covered.
    """
    rows, columns = (
        _weights(length, cells, share, interpolation)
        for length, cells, share in zip(size, values.shape, coverage, strict=True)
    )
    # Pixels outside have weights of nan, which a product would spread.
    enlarged = np.full(size, np.nan, dtype=np.float32)
    is_row, is_column = ~np.isnan(rows[:, 0]), ~np.isnan(columns[:, 0])
    product = rows[is_row] @ values.astype(np.float32) @ columns[is_column].T
    enlarged[np.ix_(is_row, is_column)] = product
    return enlarged


def draw_mark(panel: NDArray[np.uint8], mark: Mark | None) -> NDArray[np.uint8]:
    """Return a panel, (h, w, 3) uint8, with a cross at a place, or the outline of a region."""
    if mark is None:
        return panel
    height, width = panel.shape[:2]
    if isinstance(mark, tuple):
        line = _cross((height, width), mark)
        thickness = max(1, width // 500)
        line = _dilate(line, thickness)
        outline = _dilate(line, max(1, thickness))
    else:
        region = resize_labels(mark.astype(np.uint8), (height, width)).astype(bool)
        line = region & _dilate(~region, max(1, width // 640))
        outline = _dilate(region, 1) & ~region
    marked = panel.copy()
    marked[outline] = _OUTLINE
    marked[line] = _LINE
    return marked


def draw_map_panel(
    gray: NDArray[np.uint8],
    values: NDArray[np.floating],
    scale: ColorScale,
    mark: Mark | None = None,
) -> NDArray[np.uint8]:
    """Draw a map over a gray photograph.

    Args:
        gray: (h, w) uint8, of `draw_gray`.
        values: (h, w), of `resize_map`.
        scale: the colors.
        mark: the query.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    return draw_mark(scale.blend(gray, values), mark)


def resize_photograph(photograph: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB -> (*size, 3), with antialiasing."""
    return resize_image(photograph, size)


@lru_cache(maxsize=32)
def _weights(
    length: int, cells: int, coverage: float, interpolation: Interpolation
) -> NDArray[np.float32]:
    """(length, cells): the weight of each cell for each pixel along one axis; nan outside."""
    places = (np.arange(length) + 0.5) / length / coverage * cells  # in cells from the edge
    weights = np.zeros((length, cells), dtype=np.float32)
    pixels = np.arange(length)
    if interpolation == "nearest":
        weights[pixels, np.clip(places.astype(int), 0, cells - 1)] = 1
    else:
        centers = np.clip(places - 0.5, 0, cells - 1)
        below = np.minimum(centers.astype(int), max(cells - 2, 0))
        weights[pixels, below] = 1 - (centers - below)
        weights[pixels, np.minimum(below + 1, cells - 1)] += centers - below
    weights[places >= cells] = np.nan
    return weights


def _cross(size: Size, place: tuple[float, float]) -> NDArray[np.bool_]:
    """A thin cross, its middle at a place in heights and widths."""
    row, column = (
        min(int(share * side), side - 1) for share, side in zip(place, size, strict=True)
    )
    arm = max(3, size[1] // 45)
    line = np.zeros(size, dtype=bool)
    line[max(row - arm, 0) : row + arm + 1, column] = True
    line[row, max(column - arm, 0) : column + arm + 1] = True
    return line


def _dilate(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Grow a mask by so many pixels in the four directions and between them."""
    grown = mask.copy()
    for axis in (0, 1):
        source = grown.copy()
        for step in range(1, steps + 1):
            for before, after in _shifts(axis, step):
                grown[before] |= source[after]
    return grown


def _shifts(axis: int, step: int) -> Sequence[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    head, tail = slice(None, -step), slice(step, None)
    whole = slice(None)
    if axis == 0:
        return [((head, whole), (tail, whole)), ((tail, whole), (head, whole))]
    return [((whole, head), (whole, tail)), ((whole, tail), (whole, head))]
