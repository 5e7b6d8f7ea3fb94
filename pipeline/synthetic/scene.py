"""One frame of a street: plan it, paint it back to front, and take the picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.buildings import paint_far_end, paint_row
from pipeline.synthetic.camera import draw_camera
from pipeline.synthetic.canvas import INSTANCE_BASE, Canvas
from pipeline.synthetic.finish import develop, label_borders, paint_bonnet
from pipeline.synthetic.ground import paint_ground, shade_from_buildings, shade_ground
from pipeline.synthetic.light import draw_light
from pipeline.synthetic.placing import place_all
from pipeline.synthetic.sky import paint_backdrop, paint_sky
from pipeline.synthetic.street import draw_street
from pipeline.synthetic.texture import make_texture
from pipeline.synthetic.view import View

SMOOTH_ROWS = 512
"""Frames of up to so many rows are painted at twice their size, for smooth edges."""


@dataclass(frozen=True)
class SyntheticFrame:
    """A drawn frame and its truth.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        label_ids: (h, w) uint8, official label ids 0..33.
        instance_ids: (h, w) uint16; below 1000 a label id, else label id * 1000 + number.
    """

    image: NDArray[np.uint8]
    label_ids: NDArray[np.uint8]
    instance_ids: NDArray[np.uint16]


def draw_frame(rng: np.random.Generator, size: tuple[int, int]) -> SyntheticFrame:
    """Draw a street and label it.

    Args:
        rng: decides everything; the same generator state gives the same frame.
        size: rows and columns; at least 32 each.

    Raises:
        ValueError: a side is under 32 pixels.
    """
    rows, columns = size
    if min(rows, columns) < 32:
        raise ValueError(f"synthetic: a frame of {rows}x{columns} is too small; use 32x32 or more")
    scale = 2 if rows <= SMOOTH_ROWS else 1
    view = _open_view(rng, rows * scale, columns * scale)
    _paint_scene(view)
    ids = view.canvas.ids[::scale, ::scale].copy()
    labels = np.where(ids >= INSTANCE_BASE, ids // INSTANCE_BASE, ids).astype(np.uint8)
    return SyntheticFrame(develop(view, scale), labels, ids)


def _open_view(rng: np.random.Generator, rows: int, columns: int) -> View:
    return View(
        canvas=Canvas(rows, columns),
        camera=draw_camera(rng, rows, columns),
        light=draw_light(rng),
        texture=make_texture(rng),
        rng=rng,
        shade=np.zeros((rows, columns), np.float32),
    )


def _paint_scene(view: View) -> None:
    street = draw_street(view.rng)
    paint_sky(view)
    paint_backdrop(view)
    paint_ground(view, street)
    paint_far_end(view, street)
    for side in street.sides:
        heights = paint_row(view, street, side)
        shade_from_buildings(view, side, heights)
    items: list[tuple[float, Callable[[], None]]] = place_all(view, street)
    shade_ground(view)
    items.sort(key=lambda item: -item[0])
    for _, paint in items:
        paint()
    paint_bonnet(view)
    label_borders(view)
