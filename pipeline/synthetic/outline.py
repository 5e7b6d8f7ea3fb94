"""Rasterize convex polygons."""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.camera import FloatArray

PolygonMask = tuple[slice, slice, NDArray[np.bool_]]
"""Rows and columns of a rectangle of the picture, and which of its pixels (h, w) are covered."""

_VECTORIZE_FROM_CORNERS = 9
"""From this number of corners on, cutting all edges at once is faster."""


def rasterize_polygon(points: FloatArray, shape: tuple[int, int]) -> PolygonMask | None:
    """Find the pixels whose centers lie in a convex polygon.

    Args:
        points: (n, 2) row and column of its corners, in pixels; may lie outside of the picture.
        shape: rows and columns of the picture.

    Returns:
        None if there is no such pixel's row or column in the picture.
    """
    # Plain numbers: a frame has hundreds of polygons, most of them with four corners.
    row, column = points.T.tolist()
    first, last = pixel_span((min(row), max(row)), shape[0])
    left, right = pixel_span((min(column), max(column)), shape[1])
    if last <= first or right <= left:
        return None
    line = np.arange(first + 0.5, last)
    cut = _scan_vectorized if len(row) >= _VECTORIZE_FROM_CORNERS else _scan_by_edge
    entry, exit_ = cut(points, line, first)
    middle = np.arange(left + 0.5, right)
    begin, end = np.minimum(entry, exit_)[:, None], np.maximum(entry, exit_)[:, None]
    return slice(first, last), slice(left, right), (middle >= begin) & (middle < end)


def pixel_span(ends: tuple[float, float], size: int) -> tuple[int, int]:
    """Return first pixel, and last pixel + 1, whose center lies between two ends in 0..size."""
    return (
        min(max(math.ceil(ends[0] - 0.5), 0), size),
        min(max(math.ceil(ends[1] - 0.5), 0), size),
    )


def _scan_by_edge(
    points: FloatArray, line: FloatArray, first: int
) -> tuple[FloatArray, FloatArray]:
    """Where each line of pixels enters and leaves: a convex outline goes down once and up once."""
    down, up = np.zeros(len(line)), np.zeros(len(line))
    corners = points.tolist()
    before, from_column = corners[-1]
    for row, column in corners:
        low, high = (before, row) if row > before else (row, before)
        start = max(math.ceil(low - 0.5) - first, 0)
        stop = min(math.ceil(high - 0.5) - first, len(line))
        if stop > start:
            slope = (column - from_column) / (row - before)
            side = down if row > before else up
            side[start:stop] = line[start:stop] * slope + (column - row * slope)
        before, from_column = row, column
    return down, up


def _scan_vectorized(
    points: FloatArray, line: FloatArray, first: int
) -> tuple[FloatArray, FloatArray]:
    """Do the same for outlines of many corners, with any first line."""
    del first
    row, column = points[:, 0], points[:, 1]
    follower = np.arange(1, len(points) + 1)
    follower[-1] = 0
    rise = row[follower] - row
    rise[rise == 0] = 1
    slope = (column[follower] - column) / rise
    above = row[:, None] <= line
    crossed = above != above[follower]
    place = (column - row * slope)[:, None] + slope[:, None] * line
    left = np.minimum.reduce(np.where(crossed, place, np.inf))
    right = np.maximum.reduce(np.where(crossed, place, -np.inf))
    return left, right
