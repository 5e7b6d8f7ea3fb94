"""Cars of several shapes: a body, a cabin of glass on it, wheels and lamps."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.solids import (
    AHEAD,
    BACK,
    LEFT,
    RIGHT,
    UP,
    Body,
    Panel,
    Pose,
    Tone,
    disc,
    interpolate_quad,
    paint_solid,
    quad,
    rectangle,
)
from pipeline.synthetic.view import View, pick_color, rgb

# As often as they are met: black, grays, silver, white and dark blue; the last five are rare.
_PAINT = np.array(
    [(0.05, 0.05, 0.06), (0.08, 0.08, 0.10), (0.07, 0.07, 0.08), (0.16, 0.17, 0.19),
     (0.26, 0.27, 0.29), (0.34, 0.35, 0.37), (0.48, 0.49, 0.51), (0.60, 0.61, 0.63),
     (0.66, 0.67, 0.68), (0.84, 0.84, 0.84), (0.80, 0.81, 0.82), (0.08, 0.12, 0.24),
     (0.12, 0.18, 0.36), (0.16, 0.28, 0.46), (0.46, 0.07, 0.08), (0.56, 0.10, 0.10),
     (0.20, 0.28, 0.22), (0.50, 0.45, 0.36), (0.75, 0.60, 0.12), (0.30, 0.12, 0.16)],
    np.float32,
)  # fmt: skip
_GLASS = rgb(0.11, 0.13, 0.15)
_RUBBER = rgb(0.07, 0.07, 0.08)
_RIM = rgb(0.52, 0.53, 0.55)


@dataclass(frozen=True)
class Shape:
    """A kind of car in meters; `cabin` gives z of rear foot, rear top, front top and front foot."""

    length: float
    width: float
    height: float
    belt: float
    nose: float
    cabin: tuple[float, float, float, float]


SHAPES = (
    Shape(4.0, 1.74, 1.47, 0.93, 0.80, (-1.95, -1.70, 0.25, 1.05)),  # small
    Shape(4.6, 1.82, 1.44, 0.92, 0.78, (-1.75, -0.95, 0.25, 1.15)),  # saloon
    Shape(4.7, 1.83, 1.49, 0.94, 0.80, (-2.28, -2.00, 0.30, 1.20)),  # estate
    Shape(4.5, 1.88, 1.70, 1.05, 0.96, (-2.18, -1.95, 0.30, 1.10)),  # off-road
    Shape(5.1, 1.95, 2.05, 1.15, 1.00, (-2.52, -2.45, 1.00, 1.70)),  # van
)
SHAPE_SHARE = (0.28, 0.26, 0.22, 0.15, 0.09)


def paint_car(view: View, pose: Pose, identity: int) -> None:
    """Paint a car of a random shape and color."""
    number = int(view.rng.choice(len(SHAPES), p=SHAPE_SHARE))
    color = pick_color(view.rng, _PAINT, 0.025)
    glass = _GLASS + np.float32(0.2) * view.light.zenith
    colors = {
        "paint": color,
        "sill": color * np.float32(0.35),
        "line": color * np.float32(0.55),
        "top": np.minimum(color * np.float32(1.15) + np.float32(0.04), 1),
        "glass": glass,
        "streak": glass * np.float32(1.4),
        "dark glass": glass * np.float32(0.6),
    }
    paint_solid(view, _car(number), pose, identity, colors)


@cache
def _car(number: int) -> Body:
    shape = SHAPES[number]
    panels = [*_sides(shape), *_ends(shape), *_cabin(shape), *_mirrors(shape)]
    return Body(panels + wheels(shape.length, shape.width))


_CORNER = 0.26  # Meters that are cut off the body's corners, which makes it look round.
_SLANT = float(np.sqrt(0.5))
_LAMP, _TAIL, _PLATE = rgb(0.80, 0.82, 0.84), rgb(0.55, 0.04, 0.05), rgb(0.80, 0.80, 0.76)
_BLACK, _INDICATOR = rgb(0.09, 0.09, 0.10), rgb(0.80, 0.42, 0.10)


def _sides(shape: Shape) -> list[Panel]:
    x, z = shape.width / 2, shape.length / 2 - _CORNER
    foot = min(shape.cabin[3], z - 0.1)
    profile = ((-z, 0.20), (z, 0.20), (z, shape.nose), (foot, shape.belt), (-z, shape.belt))
    panels = []
    for side, out in ((-x, LEFT), (x, RIGHT)):
        points = quad(*((side, y, along) for along, y in profile))
        sill = quad(*((side, y, along) for along, y in ((-z, 0.20), (z, 0.20), (z, 0.33),
                                                         (-z, 0.33))))  # fmt: skip
        doors = [quad(*((side, y, along + d) for y, d in ((0.36, 0), (shape.belt, 0),
                 (shape.belt, 0.03), (0.36, 0.03)))) for along in (-0.75, 0.25, 1.1)]  # fmt: skip
        edge = quad(*((side, shape.belt * 0.84 + d, along) for along, d in ((-z, 0), (foot, 0),
                    (foot, 0.035), (-z, 0.035))))  # fmt: skip
        marks: list[tuple[FloatArray, Tone]] = [(sill, "sill"), (edge, "line")]
        marks += [(door, "line") for door in doors]
        panels.append(Panel(points, out, "paint", tuple(marks), gradient=0.25))
    return panels


def _ends(shape: Shape) -> list[Panel]:
    """Tail, face, the four slanting corners with the lamps, bonnet and boot."""
    x, z = shape.width / 2, shape.length / 2
    inner, foot = x - _CORNER, shape.cabin[3]
    panels = []
    for sign, high, out, marks in ((-1, shape.belt, BACK, _tail), (1, shape.nose, AHEAD, _face)):
        end = sign * z
        flat = quad((-inner, 0.2, end), (inner, 0.2, end), (inner, high, end), (-inner, high, end))
        panels.append(Panel(flat, out, "paint", marks(flat), gradient=0.3))
        for side in (-1, 1):
            cut = end - sign * _CORNER
            corner = quad((side * inner, 0.2, end), (side * x, 0.2, cut), (side * x, high, cut),
                          (side * inner, high, end))  # fmt: skip
            normal = np.array([side * _SLANT, 0, sign * _SLANT], np.float32)
            panels.append(Panel(corner, normal, "paint", _lamps(corner, sign > 0), gradient=0.3))
    bonnet = quad((-inner, shape.nose, z), (inner, shape.nose, z), (x, shape.nose, z - _CORNER),
                  (x - 0.04, shape.belt, foot), (0.04 - x, shape.belt, foot),
                  (-x, shape.nose, z - _CORNER))  # fmt: skip
    deck = quad((-inner, shape.belt, -z), (inner, shape.belt, -z), (x, shape.belt, _CORNER - z),
                (x, shape.belt, 0), (-x, shape.belt, 0), (-x, shape.belt, _CORNER - z))  # fmt: skip
    return [*panels, Panel(bonnet, UP, "top"), Panel(deck, UP, "top")]


Marks = tuple[tuple[FloatArray, Tone], ...]


def _lamps(corner: FloatArray, ahead: bool) -> Marks:
    """The bumper's dark foot and a lamp, wrapped around a corner of the body."""
    foot = (rectangle(corner, (0, 1), (0, 0.16)), _BLACK)
    if ahead:
        lamp = rectangle(corner, (0, 0.85), (0.66, 0.93))
        return foot, (lamp, _LAMP), (rectangle(corner, (0.6, 0.85), (0.68, 0.90)), _INDICATOR)
    return foot, (rectangle(corner, (0, 0.75), (0.62, 0.92)), _TAIL)


def _tail(rear: FloatArray) -> Marks:
    return (
        (rectangle(rear, (0, 1), (0, 0.18)), _BLACK),
        (rectangle(rear, (0, 1), (0.42, 0.44)), "line"),
        (rectangle(rear, (0, 0.10), (0.64, 0.92)), _TAIL),
        (rectangle(rear, (0.90, 1), (0.64, 0.92)), _TAIL),
        (rectangle(rear, (0.28, 0.72), (0.58, 0.80)), "sill"),
        (rectangle(rear, (0.33, 0.67), (0.61, 0.77)), _PLATE),
    )


def _face(face: FloatArray) -> Marks:
    return (
        (rectangle(face, (0, 1), (0, 0.14)), _BLACK),
        (rectangle(face, (0.16, 0.84), (0.16, 0.36)), _BLACK),
        (rectangle(face, (0.14, 0.86), (0.58, 0.90)), _BLACK),
        (rectangle(face, (0, 0.12), (0.66, 0.93)), _LAMP),
        (rectangle(face, (0.88, 1), (0.66, 0.93)), _LAMP),
        (rectangle(face, (0.34, 0.66), (0.40, 0.54)), _PLATE),
    )


def _mirrors(shape: Shape) -> list[Panel]:
    panels = []
    place = shape.cabin[3] - 0.35
    for side in (-1, 1):
        near, far = side * (shape.width / 2 - 0.03), side * (shape.width / 2 + 0.17)
        plate = quad((near, shape.belt, place), (far, shape.belt + 0.02, place),
                     (far, shape.belt + 0.15, place), (near, shape.belt + 0.12, place))  # fmt: skip
        panels += [Panel(plate, BACK, "sill", (), -1), Panel(plate, AHEAD, "paint", (), -1)]
    return panels


def _cabin(shape: Shape) -> list[Panel]:
    wide, narrow = shape.width / 2 - 0.05, shape.width / 2 - 0.24
    low, high = shape.belt - 0.01, shape.height
    rear, rear_top, front_top, front = shape.cabin
    back = quad((-wide, low, rear), (wide, low, rear), (narrow, high, rear_top),
                (-narrow, high, rear_top))  # fmt: skip
    ahead = quad((-wide, low, front), (wide, low, front), (narrow, high, front_top),
                 (-narrow, high, front_top))  # fmt: skip
    roof = quad((-narrow, high, rear_top), (narrow, high, rear_top), (narrow, high, front_top),
                (-narrow, high, front_top))  # fmt: skip
    window: Marks = (
        (interpolate_quad(back, (0.06, 0.16), (0.94, 0.16), (0.89, 0.90), (0.11, 0.90)), "glass"),
        (
            interpolate_quad(back, (0.06, 0.16), (0.94, 0.16), (0.93, 0.36), (0.07, 0.36)),
            "dark glass",
        ),
    )
    panels = [
        Panel(back, BACK, "paint", window, 1),
        Panel(ahead, AHEAD, "paint", _windscreen(ahead), 1),
        Panel(roof, UP, "top", (), 1),
    ]
    for sign, out in ((-1, LEFT), (1, RIGHT)):
        side = quad((sign * wide, low, rear), (sign * wide, low, front),
                    (sign * narrow, high, front_top), (sign * narrow, high, rear_top))  # fmt: skip
        panes: Marks = tuple((rectangle(side, part, (0.08, 0.86)), "glass")
                             for part in ((0.05, 0.30), (0.33, 0.60), (0.63, 0.95)))  # fmt: skip
        panels.append(Panel(side, out, "paint", panes, 1))
    return panels


def _windscreen(ahead: FloatArray) -> Marks:
    streak = interpolate_quad(ahead, (0.55, 0.06), (0.72, 0.06), (0.88, 0.92), (0.75, 0.92))
    dash = rectangle(ahead, (0.05, 0.95), (0.05, 0.28))
    whole = rectangle(ahead, (0.05, 0.95), (0.05, 0.92))
    return ((whole, "glass"), (dash, "dark glass"), (streak, "streak"))


def wheels(length: float, width: float, radius: float = 0.32, axles: int = 2) -> list[Panel]:
    """Wheels on both sides, and the dark tires seen from behind and ahead."""
    panels = []
    x = width / 2 - 0.01
    for place in np.linspace(-0.31 * length, 0.31 * length, axles):
        for side, out in ((-x, LEFT), (x, RIGHT)):
            tyre = disc((side, radius, place), radius)
            arch = disc((side * 1.002, radius + 0.03, place), radius * 1.12)
            rim = disc((side, radius, place), radius * 0.62)
            marks = ((arch, _RUBBER * 0.7), (tyre, _RUBBER), (rim, _RIM))
            panels.append(Panel(tyre, out, _RUBBER, marks, 2))
            inner = side - np.sign(side) * 0.22
            for end, face in ((-radius * 0.6, BACK), (radius * 0.6, AHEAD)):
                tread = quad((side, 0, place + end), (inner, 0, place + end),
                             (inner, radius, place + end), (side, radius, place + end))  # fmt: skip
                panels.append(Panel(tread, face, _RUBBER, (), -1))
    return panels
