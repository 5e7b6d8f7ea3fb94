"""Shade the ground: shadows of houses, tree crowns, vehicles and people."""

import numpy as np

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.outline import pixel_span, rasterize_polygon
from pipeline.synthetic.street import Side
from pipeline.synthetic.view import View

_MIN_SHADOW_SCALE = (
    10.0  # Pixels for a meter below which a shadow on the ground is too thin to see.
)
_MIN_SHADOW_STRENGTH = 0.12  # Of the light; a shadow that takes less is not worth painting.
_TURN = np.arange(12) * (2 * np.pi / 12)
_RING = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def cast_building_shadows(view: View, side: Side, heights: FloatArray) -> None:
    """Let a row of buildings shade the street.

    Args:
        view: the frame; its `shade` is written.
        side: where the row stands.
        heights: (n, 3) z from, z to and height of each building, meters.
    """
    sun = view.light.sun
    reach = float(sun[0]) * side.sign / float(sun[1])
    if reach <= 0.05 or view.light.shadow < _MIN_SHADOW_STRENGTH:
        return
    first, x, z = view.camera.ground
    length = np.zeros_like(z)
    drift = float(sun[2]) / float(sun[1])
    for start, stop, height in heights:
        shift = -drift * height * 0.5
        inside = (z > start + shift) & (z < stop + shift)
        length = np.where(inside, height * reach, length)
    dark = x * np.float32(side.sign) > np.float32(side.facade) - length
    below = view.shade[first:]
    np.maximum(below, np.float32(view.light.shadow) * dark, out=below)


def cast_object_shadow(
    view: View,
    place: tuple[float, float],
    half: tuple[float, float],
    height: float,
    dark: float = 0.45,
) -> None:
    """Shade the ground around and, in sunshine, behind an object.

    Args:
        view: the frame; its `shade` is written.
        place: x and z of the object's middle, meters.
        half: half its extent along x and z, meters.
        height: how tall it is, meters; 0 for the contact shadow alone.
        dark: how much light is lost right below it, 0..1.
    """
    if view.camera.pixels_per_meter(place[1]) < _MIN_SHADOW_SCALE:
        return
    if height and view.light.shadow > _MIN_SHADOW_STRENGTH:
        # A ring drawn out towards its corners follows a vehicle's outline better than an ellipse.
        foot = np.clip(_RING * 1.25, -1, 1) * np.array(half) + np.array(place)
        to_x, to_y, to_z = view.light.sun.tolist()
        away = np.array([-to_x, -to_z]) * (height / to_y)
        ahead = _RING[:, 0] * away[0] + _RING[:, 1] * away[1] > 0
        _shade_polygon(view, foot + ahead[:, None] * away, view.light.shadow)
    _shade_patch(view, place, half, dark)


def cast_tree_shadow(view: View, place: tuple[float, float], size: float) -> None:
    """Let a tree `size` meters tall at place (x, z) throw the shadow of its crown, with gaps."""
    shadow = view.light.shadow
    _shade_patch(view, place, (0.05 * size, 0.05 * size), 0.4)
    if shadow < _MIN_SHADOW_STRENGTH:
        _shade_patch(view, place, (0.3 * size, 0.3 * size), 0.18)
        return
    to_x, to_y, to_z = view.light.sun.tolist()
    far = 0.68 * size / to_y
    middle = (place[0] - to_x * far, place[1] - to_z * far)
    _shade_patch(view, middle, (0.34 * size, 0.30 * size / to_y), shadow, gaps=0.9)


def _shade_patch(
    view: View,
    place: tuple[float, float],
    half: tuple[float, float],
    dark: float,
    gaps: float = 0.0,
) -> None:
    """Shade a rounded rectangle on the ground, half as much at its rim as in its middle."""
    camera = view.camera
    near, far = max(place[1] - half[1], 2.0), place[1] + half[1]
    if far <= near or camera.pixels_per_meter(far) < _MIN_SHADOW_SCALE:
        return
    first, last = pixel_span((camera.row_of(0, far), camera.row_of(0, near)), camera.rows)
    edges = [
        camera.column_of(place[0] + side * half[0], z) for z in (near, far) for side in (-1, 1)
    ]
    left, right = pixel_span((min(edges), max(edges)), camera.columns)
    horizon, x, z = camera.ground
    first = max(first, horizon)
    if last <= first or right <= left:
        return
    rows = slice(first - horizon, last - horizon)
    across = (x[rows, left:right] - np.float32(place[0])) * np.float32(1 / half[0])
    along = (z[rows] - np.float32(place[1])) * np.float32(1 / half[1])
    across *= across
    along = along * along
    if gaps:
        # The sun through leaves: a ragged rim and spots of light.
        street_z = z[rows] + np.float32(camera.traveled)
        gap = view.texture.patches(street_z * 9, x[rows, left:right] * 9)
        strength = np.float32(dark) * (across + along + np.float32(gaps) * gap < 0.9)
    else:
        strength = (1 - across * across - along * along) * np.float32(2 * dark)
        np.minimum(strength, np.float32(dark), out=strength)
    here = view.shade[first:last, left:right]
    np.maximum(here, strength, out=here)


def _shade_polygon(view: View, ground: FloatArray, strength: float) -> None:
    points = np.stack([ground[:, 0], np.zeros(len(ground)), ground[:, 1]], axis=1)
    found = rasterize_polygon(view.camera.project(points), view.canvas.shape)
    if found is not None:
        here = view.shade[found[0], found[1]]
        np.maximum(here, np.float32(strength), out=here, where=found[2])
