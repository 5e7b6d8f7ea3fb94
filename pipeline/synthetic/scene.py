"""Draw one frame of a street: plan it, paint it back to front, and expose it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.buildings import paint_far_end, paint_row
from pipeline.synthetic.camera import draw_camera
from pipeline.synthetic.canvas import INSTANCE_BASE, Canvas
from pipeline.synthetic.finish import expose, label_borders, paint_bonnet, to_uint8_image
from pipeline.synthetic.ground import mirror_in_ground, paint_ground, shade_ground
from pipeline.synthetic.light import draw_light
from pipeline.synthetic.placing import place_all
from pipeline.synthetic.shadows import cast_building_shadows
from pipeline.synthetic.sky import paint_backdrop, paint_sky
from pipeline.synthetic.street import draw_street
from pipeline.synthetic.texture import make_texture
from pipeline.synthetic.traffic import Drawable
from pipeline.synthetic.view import View

SMOOTH_ROWS = 512
"""Frames of at most this many rows are painted at twice their size, for smooth edges."""


@dataclass(frozen=True)
class SyntheticFrame:
    """A drawn frame and its labels.

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
        rng: the only source of randomness; the same state gives the same frame.
        size: rows and columns; at least 32 each.

    Raises:
        ValueError: if a side is less than 32 pixels.
    """
    scale = choose_scale(size)
    view = open_view(rng, size[0] * scale, size[1] * scale)
    paint_scene(view)
    return develop(view, scale)


def choose_scale(size: tuple[int, int]) -> int:
    """Return how many times larger than the frame its canvas is on each side.

    Raises:
        ValueError: if a side is less than 32 pixels.
    """
    rows, columns = size
    if min(rows, columns) < 32:
        raise ValueError(f"synthetic: a frame of {rows}x{columns} is too small; use 32x32 or more")
    return 2 if rows <= SMOOTH_ROWS else 1


def develop(
    view: View, scale: int, *, noise: float | None = None, brightness: float | None = None
) -> SyntheticFrame:
    """Return the frame that the camera takes of a painted canvas `scale` times as large.

    `noise` and `brightness` are those of `expose`.
    """
    ids = view.canvas.ids[::scale, ::scale].copy()
    labels = np.where(ids >= INSTANCE_BASE, ids // INSTANCE_BASE, ids).astype(np.uint8)
    picture = expose(view, scale, noise=noise, brightness=brightness)
    return SyntheticFrame(to_uint8_image(picture), labels, ids)


def open_view(rng: np.random.Generator, rows: int, columns: int) -> View:
    """Prepare an empty canvas of rows x columns pixels, the camera, the light and the textures."""
    return View(
        canvas=Canvas(rows, columns),
        camera=draw_camera(rng, rows, columns),
        light=draw_light(rng),
        texture=make_texture(rng),
        rng=rng,
        shade=np.zeros((rows, columns), np.float32),
    )


def paint_scene(view: View) -> None:
    """Paint a whole street onto an empty canvas, from the sky to the hood, and its labels."""
    street = draw_street(view.rng)
    paint_sky(view)
    paint_backdrop(view)
    paint_ground(view, street)
    paint_far_end(view, street)
    for side in street.sides:
        heights = paint_row(view, street, side)
        cast_building_shadows(view, side, heights)
    items = place_all(view, street)
    shade_ground(view)
    mirror_in_ground(view)
    paint_back_to_front(items)
    paint_bonnet(view)
    label_borders(view)


def paint_back_to_front(items: list[Drawable]) -> None:
    """Paint the objects on the street from far to near, so that near ones hide far ones."""
    for _, paint in sorted(items, key=lambda item: -item[0]):
        paint()
