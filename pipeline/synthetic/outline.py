"""Which pixels a convex polygon covers."""

import math

import numpy as np
from numpy.typing import NDArray
from skimage import draw

from pipeline.synthetic.camera import FloatArray

_FEW_TESTS = 1500
"""Points in the bounding box times corners, from which filling row by row is the faster way."""


def pixels_inside(points: FloatArray, shape: tuple[int, int]) -> NDArray[np.intp]:
    """List the pixels whose middles lie in a convex polygon, as places in a flattened picture.

    Args:
        points: (n, 2) row and column of its corners, in pixels; may lie outside of the picture.
        shape: rows and columns of the picture.

    Returns:
        (m,) row * columns + column, row by row.
    """
    # Plain numbers: a frame has a thousand polygons, most of them with four corners.
    row, column = points.T.tolist()
    low, high = min(row), max(row)
    tall = min(high, shape[0]) - max(low, 0)
    broad = min(max(column), shape[1]) - max(min(column), 0)
    if tall <= 0 or broad <= 0:
        return np.empty(0, np.intp)
    if tall * broad * len(row) < _FEW_TESTS:
        rows, columns = draw.polygon(points[:, 0] - 0.5, points[:, 1] - 0.5, shape)
        few: NDArray[np.intp] = rows * shape[1] + columns
        return few
    return _row_by_row(points, shape, (low, high))


def _row_by_row(
    points: FloatArray, shape: tuple[int, int], reach: tuple[float, float]
) -> NDArray[np.intp]:
    """Cut the polygon by each row's middle line: a convex one is one span there."""
    height, width = shape
    first, last = (min(max(math.ceil(end - 0.5), 0), height) for end in reach)
    if last <= first:
        return np.empty(0, np.intp)
    line = np.arange(first, last) + 0.5
    row, column = points[:, 0], points[:, 1]
    follower = np.arange(1, len(points) + 1)
    follower[-1] = 0
    rise = row[follower] - row
    rise[rise == 0] = 1
    slope = (column[follower] - column) / rise
    above = row[:, None] <= line
    crossed = above != above[follower]
    place = (column - row * slope)[:, None] + slope[:, None] * line
    # Outside the picture on the right and on the left, so that an empty row counts nothing.
    left = np.minimum.reduce(np.where(crossed, place, width + 1.0))
    right = np.maximum.reduce(np.where(crossed, place, -1.0))
    start, stop = np.ceil(np.stack([left, right]) - 0.5).clip(0, width).astype(np.intp)
    count = np.maximum(stop - start, 0)
    ends = np.cumsum(count)
    offset = np.arange(first, last) * width + start - (ends - count)
    place_of: NDArray[np.intp] = np.arange(ends[-1]) + np.repeat(offset, count)
    return place_of
