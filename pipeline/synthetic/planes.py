"""Upright planes in perspective: facades, walls, fences and hedges along or across the street."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.view import View

Paint = Callable[["Region"], tuple[FloatArray, NDArray[np.bool_]]]
"""Given a region: its colors (3, r, c) and where it is solid (r, c)."""


@dataclass(frozen=True)
class Region:
    """The pixels a plane may cover, and where on the plane each of them lies.

    `along` (1, c) and `up` (r, c) are meters on the plane; `depth` (1, c) meters from the camera;
    `density` (1, c) is pixels for one meter along it, for details to fade before they flicker;
    `normal` the plane's; `background` (3, r, c) what has been painted there so far.
    """

    view: View
    along: FloatArray
    up: FloatArray
    depth: FloatArray
    density: FloatArray
    normal: FloatArray
    background: FloatArray


def paint_alongside(
    view: View, x: float, span: tuple[float, float], height: float, identity: int, paint: Paint
) -> None:
    """Paint a plane that runs along the street at x, from span[0] to span[1] meters ahead."""
    camera = view.camera
    near, far = max(span[0], 1.5), span[1]
    if far <= near:
        return
    edges = sorted((camera.column_of(x, near), camera.column_of(x, far)))
    first, last = (min(max(math.ceil(edge - 0.5), 0), camera.columns) for edge in edges)
    if last <= first:
        return
    sideways = np.arange(first, last, dtype=np.float32)[None] + 0.5 - camera.center
    z = np.clip(camera.focal * x / np.where(sideways == 0, 1e-3, sideways), near, far)
    z = z.astype(np.float32)
    density = camera.focal * abs(x) / z**2
    normal = np.array([-np.sign(x), 0, 0], np.float32)
    along = z + np.float32(camera.traveled)
    _paint(view, (first, last), (along, z, density), normal, (height, identity, paint))


def paint_across(
    view: View, z: float, span: tuple[float, float], height: float, identity: int, paint: Paint
) -> None:
    """Paint a plane that faces the camera z meters ahead, from x = span[0] to span[1]."""
    camera = view.camera
    edges = [camera.column_of(x, z) for x in sorted(span)]
    first, last = (min(max(math.ceil(edge - 0.5), 0), camera.columns) for edge in edges)
    if last <= first or z < 1.5:
        return
    sideways = np.arange(first, last, dtype=np.float32)[None] + 0.5 - camera.center
    depth = np.full_like(sideways, z)
    density = np.full_like(sideways, camera.focal / z)
    normal = np.array([0, 0, -1], np.float32)
    x = (sideways * z / camera.focal).astype(np.float32)
    _paint(view, (first, last), (x, depth, density), normal, (height, identity, paint))


def _paint(
    view: View,
    columns: tuple[int, int],
    geometry: tuple[FloatArray, FloatArray, FloatArray],
    normal: FloatArray,
    height_id_and_paint: tuple[float, int, Paint],
) -> None:
    along, depth, density = geometry
    height, identity, paint = height_id_and_paint
    camera = view.camera
    nearest = float(depth.min())
    first = min(max(int(camera.row_of(height, nearest)), 0), camera.rows)
    last = min(max(math.ceil(camera.row_of(0, nearest)), 0), camera.rows)
    if last <= first:
        return
    row = np.arange(first, last, dtype=np.float32)[:, None] + 0.5
    up = (camera.height - (row - camera.horizon) * depth / camera.focal).astype(np.float32)
    behind = view.canvas.color[:, first:last, slice(*columns)]
    color, solid = paint(Region(view, along, up, depth, density, normal, behind))
    where = solid & (up >= 0) & (up <= height)
    whole = np.broadcast_to(depth, up.shape)
    view.canvas.patch(slice(first, last), slice(*columns), color, identity, whole, where)
