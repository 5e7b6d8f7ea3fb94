"""The flat part of a street: asphalt and its markings, pavements, grass, and the light on them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.canvas import LABEL_ID
from pipeline.synthetic.outline import pixels_inside
from pipeline.synthetic.street import Side, Street
from pipeline.synthetic.view import View, channels, rgb

_MATERIALS = {
    # name: label, colour, strength of patches, strength of grain
    "asphalt": ("road", (0.40, 0.40, 0.41), 0.07, 0.07),
    "rails": ("rail track", (0.42, 0.41, 0.40), 0.10, 0.08),
    "parking": ("parking", (0.47, 0.46, 0.45), 0.10, 0.12),
    "kerb": ("sidewalk", (0.66, 0.65, 0.63), 0.05, 0.08),
    "slabs": ("sidewalk", (0.60, 0.59, 0.57), 0.07, 0.07),
    "bricks": ("sidewalk", (0.56, 0.45, 0.40), 0.09, 0.14),
    "paving": ("sidewalk", (0.48, 0.47, 0.47), 0.09, 0.10),
    "grass": ("terrain", (0.33, 0.43, 0.19), 0.25, 0.28),
    "soil": ("terrain", (0.43, 0.36, 0.26), 0.18, 0.20),
    "plaza": ("ground", (0.55, 0.53, 0.50), 0.08, 0.10),
}
_NAMES = tuple(_MATERIALS)
_SHADED = 6.0  # Pixels for a metre below which a shadow on the ground is too thin to see.
_IDS = np.array([LABEL_ID[_MATERIALS[name][0]] for name in _NAMES], np.uint16)


def paint_ground(view: View, street: Street) -> None:
    """Cover everything below the horizon, without shadows."""
    first, x, z = view.camera.ground()
    zone = _zones(street, x, z)
    color = _surface(view, zone, x, z)
    _mark_lanes(color, zone == 0, street, x, z)
    if street.rails is not None:
        _lay_rails(color, zone, street.rails, x)
    if street.zebra is not None:
        _paint_zebra(color, zone == 0, street, x, z)
    _wear(view, color, zone == 0)
    view.canvas.color[:, first:] = color * channels(view.light.on(rgb(0, 1, 0)))
    view.canvas.ids[first:] = _IDS[zone]
    view.canvas.depth[first:] = z


def shade_ground(view: View) -> None:
    """Darken the ground where `view.shade` says so, with soft edges."""
    first = max(0, int(np.ceil(view.camera.horizon)))
    soft = ndimage.uniform_filter(view.shade[first:], size=max(1, view.camera.rows // 200))
    view.canvas.color[:, first:] *= 1 - soft


def _zones(street: Street, x: FloatArray, z: FloatArray) -> NDArray[np.uint8]:
    """(r, columns) uint8: which of the materials covers every pixel."""
    zone = np.zeros(x.shape, np.uint8)
    for side in street.sides:
        outward = x * side.sign
        for strip in side.strips:
            # Later strips lie farther out and overwrite: one comparison for each.
            np.copyto(zone, np.uint8(_NAMES.index(strip.material)), where=outward > strip.inner)
        if side.crossing is not None:
            inside = (z > side.crossing[0]) & (z < side.crossing[1])
            np.copyto(zone, np.uint8(0), where=inside & (outward > side.kerb))
    if street.rails is not None:
        np.copyto(zone, np.uint8(1), where=np.abs(x - street.rails) < 1.3)
    return zone


def _surface(view: View, zone: NDArray[np.uint8], x: FloatArray, z: FloatArray) -> FloatArray:
    """(3, r, columns): each material's colour with its grain, fading with distance."""
    rng = view.rng
    colors = np.array([_MATERIALS[name][1] for name in _NAMES])
    colors *= rng.uniform(0.82, 1.15, (len(_NAMES), 1))
    colors *= rng.uniform(0.96, 1.04, (1, 3))
    patch = np.array([_MATERIALS[name][2] for name in _NAMES], np.float32)
    grain = np.array([_MATERIALS[name][3] for name in _NAMES], np.float32)
    near = (1 / (1 + (z / 18) ** 2)).astype(np.float32)
    brightness = 1 + patch.take(zone) * view.texture.patches(z * 3.1, x * 9.0)
    brightness += grain.take(zone) * view.texture.grain(z * 31, x * 47) * near
    for name, period in (("slabs", 0.6), ("paving", 0.35), ("bricks", 0.25)):
        row, column = np.nonzero(zone == _NAMES.index(name))
        if row.size:
            across, along = x[row, column] / period, (z / period)[row, 0]
            joints = (across - np.floor(across) > 0.9) | (along - np.floor(along) > 0.9)
            brightness[row, column] -= joints * 0.16 * near[row, 0]
    return colors.T.astype(np.float32).take(zone, axis=1) * brightness


def _mark_lanes(
    color: FloatArray, road: NDArray[np.bool_], street: Street, x: FloatArray, z: FloatArray
) -> None:
    dashed = (z % 9.0) < 4.0
    white = rgb(0.88, 0.88, 0.86)
    lines = [(street.divider, z > 0 if street.lanes else dashed, 0.07)]
    lines += [(lane, dashed, 0.06) for lane in street.lanes]
    lines += [(-street.left.kerb + 0.45, z > 0, 0.05)] if street.left.kerb > 7 else []
    for place, present, half in lines:
        # Thin lines far away are kept half a pixel wide, as a lens would blur them.
        where = road & present & (np.abs(x - place) < half + z * 4e-4)
        color[:, where] = color[:, where] * 0.25 + white[:, None] * 0.75


def _wear(view: View, color: FloatArray, road: NDArray[np.bool_]) -> None:
    """Repairs of another asphalt, manholes and cracks."""
    rng, camera = view.rng, view.camera
    first = max(0, int(np.ceil(camera.horizon)))
    flat, level = color.reshape(3, -1), road.reshape(-1)

    def paint(outline: FloatArray, factor: float) -> None:
        points = np.stack([outline[:, 0], np.zeros(len(outline)), outline[:, 1]], axis=1)
        pixels = camera.project(points) - np.array([first, 0])
        place = pixels_inside(pixels, (road.shape[0], road.shape[1]))
        flat[:, place[level[place]]] *= np.float32(factor)

    for _ in range(int(rng.poisson(1.6))):
        x, z = rng.uniform(-5, 4), rng.uniform(5, 26)
        broad, long = rng.uniform(0.5, 1.7), rng.uniform(1.5, 9)
        corners = np.array([(x, z), (x + broad, z), (x + broad, z + long), (x, z + long)])
        paint(corners, rng.uniform(0.84, 0.95) if rng.random() < 0.7 else rng.uniform(1.04, 1.1))
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    for _ in range(int(rng.poisson(1.2))):
        middle = np.array([rng.uniform(-4, 3), rng.uniform(6, 22)])
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        paint(middle + 0.33 * ring, 0.72)
        paint(middle + 0.27 * ring, 1.22)
    for _ in range(int(rng.poisson(1.5))):
        x, z = rng.uniform(-4, 3), rng.uniform(5, 16)
        for _ in range(int(rng.integers(3, 9))):
            to_x, to_z = x + rng.normal(0, 0.25), z + rng.uniform(0.2, 0.8)
            crack = np.array([(x, z), (x + 0.02, z), (to_x + 0.02, to_z), (to_x, to_z)])
            paint(crack, 0.74)
            x, z = to_x, to_z


def _lay_rails(color: FloatArray, zone: NDArray[np.uint8], middle: float, x: FloatArray) -> None:
    off = np.abs(np.abs(x - middle) - 0.72)
    color[:, (off < 0.09) & (zone == 1)] *= 0.6
    color[:, (off < 0.04) & (zone == 1)] = rgb(0.62, 0.62, 0.64)[:, None]


def _paint_zebra(
    color: FloatArray, road: NDArray[np.bool_], street: Street, x: FloatArray, z: FloatArray
) -> None:
    assert street.zebra is not None
    across = (z > street.zebra) & (z < street.zebra + 3.0)
    bars = road & across & ((x % 1.0) < 0.5)
    stop = road & (np.abs(z - street.zebra + 1.5) < 0.2) & (x > street.divider)
    where = (bars | stop) & (x > -street.left.kerb) & (x < street.right.kerb)
    color[:, where] = color[:, where] * 0.2 + rgb(0.72, 0.72, 0.70)[:, None]


def shade_from_buildings(view: View, side: Side, heights: FloatArray) -> None:
    """Let a row of buildings shade the street.

    Args:
        view: the frame; its `shade` is written.
        side: where the row stands.
        heights: (n, 3) z from, z to and height of each building, metres.
    """
    sun = view.light.sun
    reach = float(sun[0]) * side.sign / float(sun[1])
    if reach <= 0.05:
        return
    first, x, z = view.camera.ground()
    length = np.zeros_like(z)
    drift = float(sun[2]) / float(sun[1])
    for start, stop, height in heights:
        shift = -drift * height * 0.5
        inside = (z > start + shift) & (z < stop + shift)
        length = np.where(inside, height * reach, length)
    dark = x * side.sign > side.facade - length
    np.maximum(view.shade[first:], view.light.shadow * dark, out=view.shade[first:])


def shade_below(
    view: View,
    place: tuple[float, float],
    half: tuple[float, float],
    height: float,
    dark: float = 0.45,
) -> None:
    """Shade the ground around and, in sunshine, behind an object.

    Args:
        view: the frame; its `shade` is written.
        place: x and z of the object's middle, metres.
        half: half its extent along x and z, metres.
        height: how tall it is, metres; 0 for the contact shadow alone.
        dark: how much light is lost right below it, 0..1.
    """
    if view.camera.pixels_per_metre(place[1]) < _SHADED:
        return
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # A ring drawn out towards its corners follows a vehicle's outline better than an ellipse.
    foot = np.sign(ring) * np.abs(ring) ** 0.6 * np.array(half) + np.array(place)
    _shade_polygon(view, foot, 0.3)
    _shade_polygon(view, (foot - np.array(place)) * 0.9 + np.array(place), dark)
    if height and view.light.shadow > 0.12:
        away = -view.light.sun[[0, 2]] / view.light.sun[1] * height
        ahead = ring @ away > 0
        _shade_polygon(view, foot + ahead[:, None] * away, view.light.shadow)


def _shade_polygon(view: View, ground: FloatArray, strength: float) -> None:
    points = np.stack([ground[:, 0], np.zeros(len(ground)), ground[:, 1]], axis=1)
    place = pixels_inside(view.camera.project(points), view.canvas.shape)
    flat = view.shade.reshape(-1)
    flat[place] = np.maximum(flat[place], strength)
