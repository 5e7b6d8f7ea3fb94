"""Street furniture: lamps, posts, traffic lights and signs, bins, fences, walls and bridges."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.canvas import LABEL_ID
from pipeline.synthetic.planes import Region, paint_across, paint_alongside
from pipeline.synthetic.solids import Body, Panel, Pose, box_sides, paint_solid, rectangle
from pipeline.synthetic.texture import stripe_cover
from pipeline.synthetic.view import View, approximate_exp_decay, channels, pick_color, rgb

_POST = np.array(
    [(0.45, 0.46, 0.47), (0.30, 0.32, 0.31), (0.22, 0.27, 0.24), (0.58, 0.59, 0.59)], np.float32
)
_WALL = np.array(
    [(0.60, 0.58, 0.54), (0.52, 0.36, 0.30), (0.70, 0.66, 0.58), (0.48, 0.47, 0.45)], np.float32
)
_FENCE = np.array(
    [(0.20, 0.22, 0.22), (0.46, 0.33, 0.22), (0.55, 0.56, 0.56), (0.22, 0.32, 0.24)], np.float32
)
_BIN = np.array(
    [(0.22, 0.26, 0.24), (0.50, 0.42, 0.16), (0.30, 0.30, 0.32), (0.48, 0.22, 0.17),
     (0.66, 0.64, 0.58)],
    np.float32,
)  # fmt: skip


def paint_pole(
    view: View,
    x: float,
    z: float,
    height: float,
    radius: float,
    color: FloatArray | None = None,
    *,
    name: str = "pole",
) -> None:
    """Paint an upright post; meters."""
    tone = (pick_color(view.rng, _POST) if color is None else color) * view.light.irradiance(
        rgb(-0.5, 0, -0.86)
    )
    scale = view.camera.pixels_per_meter(z)
    ends = view.camera.project(np.array([(x, 0, z), (x, height, z)], np.float32))
    thick = max(radius * scale, 0.8)
    lit = 0.3 * view.light.side_contrast
    view.canvas.capsule(ends, (thick, thick * 0.8), tone * 0.95, (LABEL_ID[name], z), lit)


def paint_lamp(view: View, x: float, z: float) -> None:
    """Paint a street lamp whose arm reaches over the road."""
    height = view.rng.uniform(6.0, 9.0)
    color = pick_color(view.rng, _POST)
    paint_pole(view, x, z, height, 0.07, color)
    scale = view.camera.pixels_per_meter(z)
    reach = -np.sign(x) * view.rng.uniform(1.0, 2.2)
    arm = np.array([(x, height, z), (x + reach, height + 0.3, z)], np.float32)
    ends = view.camera.project(arm)
    tone = color * view.light.irradiance(rgb(0, 0, -1))
    thin = max(0.05 * scale, 0.7)
    view.canvas.capsule(ends, (thin, thin), tone, (LABEL_ID["pole"], z))
    tip = ends[1] + np.array([[0, -0.3 * scale], [0, 0.3 * scale]])
    view.canvas.capsule(tip, (thin * 1.6, thin * 1.6), tone * 0.8, (LABEL_ID["pole"], z))


def _project_outline(view: View, x: float, y: float, z: float, outline: FloatArray) -> FloatArray:
    """(n, 2) pixels of an outline (n, 2: right, up; meters) that faces the camera at x, y, z."""
    points = np.stack([x + outline[:, 0], y + outline[:, 1], np.full(len(outline), z)], axis=1)
    return view.camera.project(points.astype(np.float32))


def _polygon(sides: int, radius: float, turn: float = 0.0) -> FloatArray:
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False) + turn
    return np.stack([np.sin(angle), np.cos(angle)], axis=1) * radius


def _rectangle(half_width: float, half_height: float) -> FloatArray:
    w, h = half_width, half_height
    return np.array([(-w, -h), (w, -h), (w, h), (-w, h)])


_RED, _WHITE, _BLUE = rgb(0.68, 0.11, 0.12), rgb(0.86, 0.86, 0.84), rgb(0.13, 0.27, 0.54)
_YELLOW, _GRAY, _BLACK = rgb(0.86, 0.69, 0.16), rgb(0.55, 0.55, 0.55), rgb(0.08, 0.08, 0.08)

_SIGNS: tuple[tuple[tuple[FloatArray, FloatArray], ...], ...] = (
    ((_polygon(18, 0.33), _RED), (_polygon(18, 0.25), _WHITE), (_rectangle(0.11, 0.10), _BLACK)),
    ((_polygon(18, 0.33), _RED), (_rectangle(0.24, 0.06), _WHITE)),
    ((_polygon(18, 0.33), _WHITE), (_polygon(18, 0.31), _BLUE), (_rectangle(0.04, 0.20), _WHITE)),
    ((_polygon(3, 0.44), _RED), (_polygon(3, 0.28), _WHITE), (_rectangle(0.03, 0.1), _BLACK)),
    ((_polygon(3, 0.44, np.pi), _RED), (_polygon(3, 0.28, np.pi), _WHITE)),
    ((_polygon(4, 0.44), _WHITE), (_polygon(4, 0.34), _YELLOW)),
    ((_rectangle(0.30, 0.30), _WHITE), (_rectangle(0.28, 0.28), _BLUE), (_polygon(3, 0.2), _WHITE)),
    ((_rectangle(0.30, 0.42), _BLUE), (_rectangle(0.09, 0.20), _WHITE)),
    ((_rectangle(0.75, 0.32), _BLACK), (_rectangle(0.72, 0.29), _YELLOW),
     (_rectangle(0.5, 0.06), _BLACK)),
    ((_rectangle(0.85, 0.45), _WHITE), (_rectangle(0.81, 0.41), _BLUE),
     (_rectangle(0.5, 0.05), _WHITE)),
    ((_polygon(8, 0.36, np.pi / 8), _WHITE), (_polygon(8, 0.33, np.pi / 8), _RED),
     (_rectangle(0.2, 0.06), _WHITE)),
)  # fmt: skip


def paint_sign(view: View, x: float, z: float) -> None:
    """Paint a sign on its post, sometimes two, sometimes from behind."""
    rng = view.rng
    height = rng.uniform(2.1, 2.9)
    paint_pole(view, x, z, height + 0.3, 0.045)
    light = view.light.irradiance(rgb(0, 0, -1))
    for level in range(2 if rng.random() < 0.3 else 1):
        layers = _SIGNS[int(rng.integers(len(_SIGNS)))]
        behind = rng.random() < 0.15
        for number, (outline, color) in enumerate(layers):
            if behind and number:
                break
            pixels = _project_outline(view, x, height - 0.75 * level, z - 0.05, outline)
            tone = (_GRAY if behind else color) * light
            view.canvas.polygon(pixels, tone, LABEL_ID["traffic sign"], z, 0.06)


def paint_traffic_light(view: View, x: float, z: float, *, lamp: int | None = None) -> None:
    """Paint a traffic light at the roadside, perhaps with a second head over the lane.

    `lamp` is the one that shines, from the top: 0 to 2; None draws one.
    """
    rng = view.rng
    paint_pole(view, x, z, 3.3, 0.075)
    heads = [(x, 2.75)]
    scale = view.camera.pixels_per_meter(z)
    if rng.random() < 0.4:
        over = x - np.sign(x) * rng.uniform(2.2, 3.4)
        paint_pole(view, x, z, 5.6, 0.085)
        arm = view.camera.project(np.array([(x, 5.5, z), (over, 5.5, z)], np.float32))
        thin = max(0.06 * scale, 0.7)
        tone = _GRAY * view.light.irradiance(rgb(0, 0, -1))
        view.canvas.capsule(arm, (thin, thin), tone, (LABEL_ID["pole"], z))
        heads.append((over, 5.2))
    lit = int(rng.integers(3)) if lamp is None else lamp
    for place, middle in heads:
        _paint_head(view, (place, middle, z), lit, bool(rng.random() < 0.85))


def _paint_head(view: View, place: tuple[float, float, float], lit: int, facing: bool) -> None:
    x, y, z = place
    identity = LABEL_ID["traffic light"]
    light = view.light.irradiance(rgb(0, 0, -1))
    case = _project_outline(view, x, y, z, _rectangle(0.17, 0.48))
    view.canvas.polygon(case, rgb(0.10, 0.12, 0.11) * light, identity, z, 0.2)
    if not facing:
        return
    for n, color in enumerate((rgb(1.0, 0.16, 0.10), rgb(1.0, 0.66, 0.10), rgb(0.16, 0.95, 0.45))):
        lens = _project_outline(view, x, y + 0.30 * (1 - n), z, _polygon(12, 0.115))
        view.canvas.polygon(lens, color if n == lit else color * 0.20, None, z)


def paint_box(view: View, pose: Pose, half: tuple[float, float], height: float, name: str) -> None:
    """Paint a bin, a cabinet or a kiosk, with the label `name`."""
    color = pick_color(view.rng, _BIN)
    panels = []
    for corners, out in box_sides(half, (0.04, height)).values():
        marks = ((rectangle(corners, (0.12, 0.88), (0.55, 0.85)), color * 0.7),)
        panels.append(Panel(corners, out, color, marks, gradient=0.2))
    paint_solid(view, Body(panels), pose, LABEL_ID[name])


def paint_wall(view: View, x: float, span: tuple[float, float], height: float) -> None:
    """Paint a wall of stone or brick that runs along the street."""
    paint = partial(_paint_stones, pick_color(view.rng, _WALL), height)
    paint_alongside(view, x, span, height, LABEL_ID["wall"], paint)


def _paint_stones(
    color: FloatArray, height: float, region: Region
) -> tuple[FloatArray, NDArray[np.bool_]]:
    texture = region.view.texture
    along, up = region.along + 1000, region.up
    course = np.floor(up / 0.24)
    place = along / 0.55 + 0.5 * (course % 2)
    fade = np.clip((region.density - 6) / 25, 0, 1)
    tone = 1 + 0.13 * (texture.cell_value(course, place) - 0.5) * fade
    tone = tone + 0.10 * texture.patches(up * 9, along * 5) + 0.04 * texture.grain(up * 40, place)
    joint = (up / 0.24 - course < 0.12) | (place - np.floor(place) < 0.05)
    tone = tone - 0.16 * joint * fade + 0.14 * (up > height - 0.14)
    return channels(color * region.view.light.irradiance(region.normal)) * tone, np.ones(
        up.shape, bool
    )


def paint_fence(view: View, x: float, span: tuple[float, float], height: float, kind: str) -> None:
    """Paint a fence (or a `guard rail`) that runs along the street; gaps count as fence."""
    color = pick_color(view.rng, _FENCE)
    board = view.rng.random() < 0.3
    paint = partial(_paint_bars, color, height, board)
    if kind == "guard rail":
        paint = partial(_paint_bars, rgb(0.62, 0.63, 0.63), height, False)
    paint_alongside(view, x, span, height, LABEL_ID[kind], paint)


def _paint_bars(
    color: FloatArray, height: float, board: bool, region: Region
) -> tuple[FloatArray, NDArray[np.bool_]]:
    along, up = region.along + 1000, region.up
    pitch = 0.16
    part = along / pitch - np.floor(along / pitch)
    post = np.abs(along / 2.5 - np.round(along / 2.5)) < 0.02
    rail = (np.abs(up - height * 0.92) < 0.05) | (np.abs(up - height * 0.18) < 0.05)
    filled = 0.85 if board else 0.3
    solid: FloatArray = (part < filled) | post | rail
    if region.view.moving:
        bars = stripe_cover(along / pitch, 1 / (pitch * region.density), filled)
        solid = np.maximum(bars, post | rail)
    tone = 1 + 0.12 * region.view.texture.grain(up * 8, along * 14)
    colors = channels(color * region.view.light.irradiance(region.normal)) * tone
    # What shows between the bars is fence to the annotators.
    fade = np.clip(region.density / 40, 0.25, 1)
    if region.view.moving:
        cover = 0.35 * (1 - fade) + solid * fade
    else:
        cover = np.where(solid, 0.35 + 0.65 * fade, 0.35 * (1 - fade))
    return region.background + (colors - region.background) * cover, np.ones(up.shape, bool)


def paint_bridge(view: View, z: float) -> None:
    """Paint a bridge that crosses over the street."""
    color = pick_color(view.rng, _WALL)
    deck = view.rng.uniform(5.0, 5.8)

    def face(region: Region) -> tuple[FloatArray, NDArray[np.bool_]]:
        colors, _ = _paint_stones(color, deck + 2.2, region)
        under = approximate_exp_decay(np.maximum(region.up - deck, 0))
        return colors * (1 - 0.3 * under), region.up > deck

    paint_across(view, z, (-80, 80), deck + 2.2, LABEL_ID["bridge"], face)


def paint_tunnel(view: View, z: float) -> None:
    """Paint the entrance of a tunnel at the end of the street."""
    color = pick_color(view.rng, _WALL)
    height, half = view.rng.uniform(6.5, 9.0), view.rng.uniform(5.0, 7.0)

    def face(region: Region) -> tuple[FloatArray, NDArray[np.bool_]]:
        stones, _ = _paint_stones(color, height, region)
        hole = (region.up < 4.8) & (np.abs(region.along) < half)
        return np.where(hole, np.float32(0.05), stones), np.ones(region.up.shape, bool)

    paint_across(view, z, (-25, 25), height, LABEL_ID["tunnel"], face)
