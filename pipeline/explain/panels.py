"""Panels of a wall: a photograph or a map over it in gray, with the query marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.explain.scale import BRIGHTEST, DARKEST
from segformer.data.resize import resize_image, resize_labels

Interpolation = Literal["nearest", "bilinear"]
"""How a map is enlarged: a block for each token, or smoothly between their centers."""

Mark = tuple[float, float] | NDArray[np.bool_]
"""The query: a place, its distances from the top and the left in heights and widths of the
photograph; or a region, (h, w) bool, stretched over the photograph."""

Size = tuple[int, int]

_LINE_COLOR, _EDGE_COLOR = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class MarkLines:
    """A mark in panels of one size: (h, w) bool masks of its white lines and their black edge."""

    line: NDArray[np.bool_]
    edge: NDArray[np.bool_]


@dataclass(frozen=True)
class _Samples:
    """For each pixel along an axis: two cells, the weight of the second, whether there is one."""

    below: NDArray[np.intp]
    above: NDArray[np.intp]
    share: NDArray[np.float32]
    is_inside: NDArray[np.bool_]


def draw_gray(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB -> (h, w) uint8, with the contrast reduced for maps above it."""
    luma = np.asarray(Image.fromarray(photograph).convert("L"), dtype=np.uint16)
    return (DARKEST + luma * (BRIGHTEST - DARKEST) // 255).astype(np.uint8)


def resize_map(
    values: NDArray[np.float32],
    size: Size,
    *,
    coverage: tuple[float, float] = (1.0, 1.0),
    interpolation: Interpolation = "nearest",
) -> NDArray[np.float32]:
    """Enlarge a map to a panel.

    Args:
        values: (rows, columns) float32.
        size: rows and columns of the panel, in pixels.
        coverage: of the panel by the map, as in `HeadMaps`.
        interpolation: between the centers of the map's tokens, or none.

    Returns:
        (*size,) float32; nan where the panel is not covered.
    """
    rows, columns = (
        _sample(length, cells, share, interpolation)
        for length, cells, share in zip(size, values.shape, coverage, strict=True)
    )
    share = rows.share[:, None]
    # Along the columns, then along the rows: (h, columns), (h, w).
    tall = values[rows.below] * (1 - share) + values[rows.above] * share
    left, right = tall[:, columns.below], tall[:, columns.above]
    enlarged = np.asarray(left * (1 - columns.share) + right * columns.share, dtype=np.float32)
    enlarged[~rows.is_inside] = np.nan
    enlarged[:, ~columns.is_inside] = np.nan
    return enlarged


def plan_mark(mark: Mark | None, size: Size) -> MarkLines | None:
    """Find the pixels of a mark in panels of a size: a cross, or the outline of a region."""
    if mark is None:
        return None
    if isinstance(mark, tuple):
        thickness = max(1, size[1] // 500)
        line = _dilate(_cross(size, mark), thickness)
        return MarkLines(line, _dilate(line, thickness) & ~line)
    region = resize_labels(mark.astype(np.uint8), size).astype(bool)
    line = region & _dilate(~region, max(1, size[1] // 640))
    return MarkLines(line, _dilate(region, 1) & ~region)


def draw_mark(panel: NDArray[np.uint8], lines: MarkLines | None) -> NDArray[np.uint8]:
    """Return a panel, (h, w, 3) uint8, with a mark: white lines with a black edge."""
    if lines is None:
        return panel
    marked = panel.copy()
    marked[lines.edge] = _EDGE_COLOR
    marked[lines.line] = _LINE_COLOR
    return marked


def resize_photograph(photograph: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB -> (*size, 3), with antialiasing."""
    return resize_image(photograph, size)


@lru_cache(maxsize=32)
def _sample(length: int, cells: int, coverage: float, interpolation: Interpolation) -> _Samples:
    places = (np.arange(length) + 0.5) / length / coverage * cells  # in cells from the edge
    centers = places - 0.5 if interpolation == "bilinear" else np.floor(places)
    centers = np.clip(centers, 0, cells - 1)
    below = centers.astype(np.intp)
    return _Samples(
        below=below,
        above=np.minimum(below + 1, cells - 1),
        share=(centers - below).astype(np.float32),
        is_inside=places < cells,
    )


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
