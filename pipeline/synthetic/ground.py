"""The flat part of a street: asphalt and its markings, pavements, grass, and the light on them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.canvas import LABEL_ID
from pipeline.synthetic.outline import rasterize_polygon
from pipeline.synthetic.street import Street
from pipeline.synthetic.texture import stripe_cover
from pipeline.synthetic.view import View, channels, rgb

_MATERIALS = {
    # name: label, color, strength of patches, strength of grain
    "asphalt": ("road", (0.40, 0.40, 0.41), 0.07, 0.07),
    "tram road": ("road", (0.40, 0.40, 0.41), 0.07, 0.07),
    "rails": ("rail track", (0.42, 0.41, 0.40), 0.10, 0.08),
    "parking": ("parking", (0.47, 0.46, 0.45), 0.10, 0.12),
    "curb": ("sidewalk", (0.66, 0.65, 0.63), 0.05, 0.08),
    "slabs": ("sidewalk", (0.60, 0.59, 0.57), 0.07, 0.07),
    "bricks": ("sidewalk", (0.56, 0.45, 0.40), 0.09, 0.14),
    "paving": ("sidewalk", (0.48, 0.47, 0.47), 0.09, 0.10),
    "grass": ("terrain", (0.33, 0.43, 0.19), 0.25, 0.28),
    "soil": ("terrain", (0.43, 0.36, 0.26), 0.18, 0.20),
    "plaza": ("ground", (0.55, 0.53, 0.50), 0.08, 0.10),
}
_NAMES = tuple(_MATERIALS)
_MIN_JOINT_NEARNESS = (
    0.15  # Of the nearness; beyond it the joints between stones are too thin to see.
)
_REFLECTIVE_IDS = np.array(
    [LABEL_ID[n] for n in ("road", "sidewalk", "parking", "rail track")], np.uint16
)
_IDS = np.array([LABEL_ID[_MATERIALS[name][0]] for name in _NAMES], np.uint16)


Wear = tuple[FloatArray, float]
"""A mark on the asphalt: its outline (n, 2), x and z in meters, and how much brighter it is."""


def paint_ground(view: View, street: Street, wear: Sequence[Wear] | None = None) -> None:
    """Cover everything below the horizon, without shadows; None draws the wear of the road."""
    first, x, z = view.camera.ground
    zone = _zones(street, x, z)
    color = _surface(view, zone, x, z)
    _mark_lanes(view, color, zone == 0, street)
    if street.rails is not None:
        _lay_rails(color, zone, street.rails, x)
    for zebra in street.zebras:
        _paint_zebra(color, zone == 0, street, zebra, x, z)
    _paint_wear(view, color, zone == 0, draw_wear(view.rng) if wear is None else wear)
    view.canvas.color[:, first:] = color * channels(view.light.irradiance(rgb(0, 1, 0)))
    view.canvas.ids[first:] = _IDS[zone]
    view.canvas.depth[first:] = z


def shade_ground(view: View) -> None:
    """Darken the ground where `view.shade` says so, with soft edges."""
    first = max(0, int(np.ceil(view.camera.horizon)))
    rows = np.flatnonzero(view.shade[first:].any(axis=1)) + first
    if not rows.size:
        return
    part = slice(max(first, int(rows[0]) - 4), int(rows[-1]) + 5)
    soft = ndimage.uniform_filter(view.shade[part], size=max(1, view.camera.rows // 200))
    view.canvas.color[:, part] *= 1 - soft


def mirror_in_ground(view: View) -> None:
    """Let wet ground mirror sky and houses, more the flatter one looks at it, and darken it."""
    wet = view.light.wet
    if not wet:
        return
    first, x, z = view.camera.ground
    color = view.canvas.color
    rows = min(first, color.shape[1] - first)
    here = color[:, first : first + rows]
    flat = np.arange(rows, 0, -1, dtype=np.float32)[:, None] * np.float32(1 / rows)
    street_z = z[:rows] + np.float32(view.camera.traveled)
    pools = view.texture.patches(street_z * np.float32(2.3), x[:rows] * np.float32(5))
    share = np.clip(np.float32(0.55) + np.float32(0.6) * pools, 0.1, 1) * flat * flat
    share *= np.float32(0.62 * wet)
    level = np.isin(view.canvas.ids[first : first + rows], _REFLECTIVE_IDS)
    share *= level
    color[:, first:] *= np.float32(1 - 0.22 * wet)
    here += (color[:, first - rows : first][:, ::-1] - here) * share


def _zones(street: Street, x: FloatArray, z: FloatArray) -> NDArray[np.uint8]:
    """(r, columns) uint8: which of the materials covers every pixel."""
    zone = np.zeros(x.shape, np.uint8)
    for side in street.sides:
        outward = x * side.sign
        for strip in side.strips:
            # Later strips lie farther out and overwrite: one comparison for each.
            np.copyto(zone, np.uint8(_NAMES.index(strip.material)), where=outward > strip.inner)
        for start, stop in side.crossings:
            inside = (z > start) & (z < stop)
            np.copyto(zone, np.uint8(0), where=inside & (outward > side.curb))
    if street.rails is not None:
        material = np.uint8(_NAMES.index("rails" if street.ballast else "tram road"))
        np.copyto(zone, material, where=np.abs(x - np.float32(street.rails)) < 1.3)
    return zone


def _surface(view: View, zone: NDArray[np.uint8], x: FloatArray, z: FloatArray) -> FloatArray:
    """(3, r, columns): each material's color with its grain, fading with distance."""
    rng = view.rng
    colors = np.array([_MATERIALS[name][1] for name in _NAMES])
    colors *= rng.uniform(0.82, 1.15, (len(_NAMES), 1))
    colors *= rng.uniform(0.96, 1.04, (1, 3))
    patch = np.array([_MATERIALS[name][2] for name in _NAMES], np.float32)
    grain = np.array([_MATERIALS[name][3] for name in _NAMES], np.float32)
    near = 1 / (1 + (z * np.float32(1 / 18)) ** 2)
    ahead, z = z, z + np.float32(view.camera.traveled)
    brightness = view.texture.patches(z * np.float32(3.1), x * np.float32(9))
    brightness *= patch.take(zone)
    fine = view.texture.grain(z * np.float32(31), x * np.float32(47))
    fine *= grain.take(zone)
    fine *= near
    brightness += fine
    brightness += 1
    for name, period in (("slabs", 0.6), ("paving", 0.35), ("bricks", 0.25)):
        number = np.uint8(_NAMES.index(name))
        row, column = np.nonzero((zone == number) & (near > _MIN_JOINT_NEARNESS))
        if row.size:
            across, along = x[row, column] / period, (z / period)[row, 0]
            beside, before = across - np.floor(across) > 0.9, along - np.floor(along) > 0.9
            if view.moving:
                # Joints across the view fade before a row of pixels spans several of them.
                span = (ahead * ahead / (view.camera.height * view.camera.focal))[row, 0]
                before = before * np.clip(1.6 - 3 * span / period, 0, 1).astype(np.float32)
            joints = np.maximum(beside, before) if view.moving else beside | before
            brightness[row, column] -= joints * 0.16 * near[row, 0]
    color = colors.T.astype(np.float32).take(zone, axis=1)
    color *= brightness
    return color


def _mark_lanes(view: View, color: FloatArray, road: NDArray[np.bool_], street: Street) -> None:
    _, x, z = view.camera.ground
    street_z = z + np.float32(view.camera.traveled)
    dashed = (street_z % 9.0) < 4.0
    if view.moving:
        span = z * z / (view.camera.height * view.camera.focal)
        cover = stripe_cover(street_z / 9, span / 9, 4 / 9).astype(np.float32)
        dashed = cover > 0
    white = rgb(0.88, 0.88, 0.86)
    lines = [(street.divider, z > 0 if street.lanes else dashed, 0.07)]
    lines += [(lane, dashed, 0.06) for lane in street.lanes]
    lines += [(-street.left.curb + 0.45, z > 0, 0.05)] if street.left.curb > 7 else []
    for place, present, half in lines:
        # Thin lines far away are kept half a pixel wide, as a lens would blur them.
        where = np.abs(x - np.float32(place)) < np.float32(half) + z * np.float32(4e-4)
        where &= road & present
        row, column = where.nonzero()
        if view.moving and present is dashed:
            weight = np.float32(0.75) * cover[row, 0]
            color[:, row, column] += (white[:, None] - color[:, row, column]) * weight
        else:
            color[:, row, column] = color[:, row, column] * np.float32(0.25) + white[:, None] * 0.75


def _paint_wear(
    view: View, color: FloatArray, road: NDArray[np.bool_], wear: Sequence[Wear]
) -> None:
    first = max(0, int(np.ceil(view.camera.horizon)))
    for outline, factor in wear:
        points = np.stack([outline[:, 0], np.zeros(len(outline)), outline[:, 1]], axis=1)
        pixels = view.camera.project(points) - np.array([first, 0])
        found = rasterize_polygon(pixels, (road.shape[0], road.shape[1]))
        if found is not None:
            rows, columns, inside = found
            piece = color[:, rows, columns]
            np.multiply(piece, np.float32(factor), out=piece, where=inside & road[rows, columns])


def draw_wear(rng: np.random.Generator) -> list[Wear]:
    """Draw repairs of another asphalt, manholes and cracks of the next 35 meters of road."""
    wear: list[Wear] = []
    for _ in range(int(rng.poisson(1.6))):
        x, z = rng.uniform(-5, 4), rng.uniform(5, 26)
        broad, long = rng.uniform(0.5, 1.7), rng.uniform(1.5, 9)
        corners = np.array([(x, z), (x + broad, z), (x + broad, z + long), (x, z + long)])
        factor = rng.uniform(0.84, 0.95) if rng.random() < 0.7 else rng.uniform(1.04, 1.1)
        wear.append((corners, factor))
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    for _ in range(int(rng.poisson(1.2))):
        middle = np.array([rng.uniform(-4, 3), rng.uniform(6, 22)])
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        wear += [(middle + 0.33 * ring, 0.72), (middle + 0.27 * ring, 1.22)]
    for _ in range(int(rng.poisson(1.5))):
        x, z = rng.uniform(-4, 3), rng.uniform(5, 16)
        for _ in range(int(rng.integers(3, 9))):
            to_x, to_z = x + rng.normal(0, 0.25), z + rng.uniform(0.2, 0.8)
            crack = np.array([(x, z), (x + 0.02, z), (to_x + 0.02, to_z), (to_x, to_z)])
            wear.append((crack, 0.74))
            x, z = to_x, to_z
    return wear


def _lay_rails(color: FloatArray, zone: NDArray[np.uint8], middle: float, x: FloatArray) -> None:
    off = np.abs(np.abs(x - middle) - 0.72)
    level = (zone == _NAMES.index("rails")) | (zone == _NAMES.index("tram road"))
    color[:, (off < 0.09) & level] *= np.float32(0.6)
    color[:, (off < 0.04) & level] = rgb(0.62, 0.62, 0.64)[:, None]


def _paint_zebra(
    color: FloatArray,
    road: NDArray[np.bool_],
    street: Street,
    zebra: float,
    x: FloatArray,
    z: FloatArray,
) -> None:
    rows = slice(*(z[::-1, 0].searchsorted(zebra + d) for d in (-1.7, 3.0)))
    rows = slice(len(z) - rows.stop, len(z) - rows.start)  # The nearest row is the last one.
    color, road, x, z = color[:, rows], road[rows], x[rows], z[rows]
    bars = road & (z > zebra) & ((x % 1.0) < 0.5)
    stop = road & (z < zebra - 1.3) & (x > street.divider)
    where = (bars | stop) & (x > -street.left.curb) & (x < street.right.curb)
    white = color * np.float32(0.2) + channels(rgb(0.72, 0.72, 0.70))
    np.copyto(color, white, where=where)
