"""Cars of several shapes: a body, a cabin of glass on it, wheels and lamps."""

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.solids import (
    AHEAD,
    BACK,
    LEFT,
    RIGHT,
    UP,
    Panel,
    Pose,
    disc,
    on_quad,
    paint_solid,
    quad,
    rectangle,
)
from pipeline.synthetic.view import View, pick, rgb

_PAINT = np.array(
    [(0.08, 0.08, 0.09), (0.10, 0.10, 0.12), (0.30, 0.31, 0.33), (0.58, 0.59, 0.61),
     (0.66, 0.67, 0.68), (0.84, 0.84, 0.84), (0.12, 0.18, 0.36), (0.50, 0.10, 0.10),
     (0.16, 0.28, 0.46), (0.24, 0.30, 0.24), (0.55, 0.50, 0.40), (0.72, 0.58, 0.12)],
    np.float32,
)  # fmt: skip
_GLASS = rgb(0.14, 0.17, 0.20)
_RUBBER = rgb(0.07, 0.07, 0.08)
_RIM = rgb(0.52, 0.53, 0.55)


@dataclass(frozen=True)
class Shape:
    """A kind of car in metres; `cabin` gives z of rear foot, rear top, front top and front foot."""

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
    """Paint a car of a random shape and colour."""
    shape = SHAPES[int(view.rng.choice(len(SHAPES), p=SHAPE_SHARE))]
    color = pick(view.rng, _PAINT, 0.03)
    mirror = _GLASS + 0.16 * view.light.zenith
    panels = _body(shape, color) + _cabin(shape, color, mirror) + wheels(shape.length, shape.width)
    paint_solid(view, panels, pose, identity)


def _body(shape: Shape, color: FloatArray) -> list[Panel]:
    x, z = shape.width / 2, shape.length / 2
    foot = shape.cabin[3]
    profile = ((-z, 0.20), (z, 0.20), (z, shape.nose), (foot, shape.belt), (-z, shape.belt))
    sill = ((-z, 0.20), (z, 0.20), (z, 0.33), (-z, 0.33))
    panels = []
    for side, out in ((-x, LEFT), (x, RIGHT)):
        points = quad(*((side, y, along) for along, y in profile))
        dark = quad(*((side, y, along) for along, y in sill))
        door = [quad(*((side, y, along + d) for y, d in ((0.36, 0), (shape.belt, 0),
                (shape.belt, 0.03), (0.36, 0.03)))) for along in (-0.75, 0.25, 1.1)]  # fmt: skip
        marks = [(dark, color * 0.35), *((line, color * 0.6) for line in door)]
        panels.append(Panel(points, out, color, tuple(marks), gradient=0.25))
    rear = quad((-x, 0.20, -z), (x, 0.20, -z), (x, shape.belt, -z), (-x, shape.belt, -z))
    face = quad((-x, 0.20, z), (x, 0.20, z), (x, shape.nose, z), (-x, shape.nose, z))
    bonnet = quad((-x, shape.nose, z), (x, shape.nose, z), (x, shape.belt, foot),
                  (-x, shape.belt, foot))  # fmt: skip
    deck = quad((-x, shape.belt, -z), (x, shape.belt, -z), (x, shape.belt, 0), (-x, shape.belt, 0))
    panels.append(Panel(rear, BACK, color, _tail(rear), gradient=0.3))
    panels.append(Panel(face, AHEAD, color, _front(face), gradient=0.3))
    panels.append(Panel(bonnet, UP, np.minimum(color * 1.15 + 0.03, 1)))
    panels.append(Panel(deck, UP, np.minimum(color * 1.15 + 0.03, 1)))
    return panels


def _tail(rear: FloatArray) -> tuple[tuple[FloatArray, FloatArray], ...]:
    lamp, plate = rgb(0.62, 0.05, 0.05), rgb(0.85, 0.85, 0.80)
    return (
        (rectangle(rear, (0, 1), (0, 0.30)), rgb(0.12, 0.12, 0.12)),
        (rectangle(rear, (0, 1), (0.30, 0.33)), rgb(0.25, 0.25, 0.25)),
        (rectangle(rear, (0.02, 0.15), (0.66, 0.90)), lamp),
        (rectangle(rear, (0.85, 0.98), (0.66, 0.90)), lamp),
        (rectangle(rear, (0.36, 0.64), (0.46, 0.62)), plate),
    )


def _front(face: FloatArray) -> tuple[tuple[FloatArray, FloatArray], ...]:
    lamp, plate = rgb(0.92, 0.93, 0.90), rgb(0.85, 0.85, 0.80)
    return (
        (rectangle(face, (0, 1), (0, 0.20)), rgb(0.10, 0.10, 0.10)),
        (rectangle(face, (0.26, 0.74), (0.52, 0.80)), rgb(0.10, 0.10, 0.11)),
        (rectangle(face, (0.02, 0.22), (0.62, 0.90)), lamp),
        (rectangle(face, (0.78, 0.98), (0.62, 0.90)), lamp),
        (rectangle(face, (0.36, 0.64), (0.30, 0.44)), plate),
    )


def _cabin(shape: Shape, color: FloatArray, glass: FloatArray) -> list[Panel]:
    wide, narrow = shape.width / 2 - 0.05, shape.width / 2 - 0.24
    low, high = shape.belt - 0.01, shape.height
    rear, rear_top, front_top, front = shape.cabin
    back = quad((-wide, low, rear), (wide, low, rear), (narrow, high, rear_top),
                (-narrow, high, rear_top))  # fmt: skip
    ahead = quad((-wide, low, front), (wide, low, front), (narrow, high, front_top),
                 (-narrow, high, front_top))  # fmt: skip
    roof = quad((-narrow, high, rear_top), (narrow, high, rear_top), (narrow, high, front_top),
                (-narrow, high, front_top))  # fmt: skip
    panels = [
        Panel(back, BACK, color, ((rectangle(back, (0.09, 0.91), (0.12, 0.88)), glass),), 1),
        Panel(ahead, AHEAD, color, _windscreen(ahead, glass), 1),
        Panel(roof, UP, color, (), 1),
    ]
    for sign, out in ((-1, LEFT), (1, RIGHT)):
        side = quad((sign * wide, low, rear), (sign * wide, low, front),
                    (sign * narrow, high, front_top), (sign * narrow, high, rear_top))  # fmt: skip
        panes = tuple((rectangle(side, part, (0.10, 0.84)), glass)
                      for part in ((0.05, 0.30), (0.33, 0.60), (0.63, 0.94)))  # fmt: skip
        panels.append(Panel(side, out, color, panes, 1))
    return panels


def _windscreen(ahead: FloatArray, glass: FloatArray) -> tuple[tuple[FloatArray, FloatArray], ...]:
    streak = on_quad(ahead, (0.55, 0.06), (0.72, 0.06), (0.88, 0.92), (0.75, 0.92))
    return ((rectangle(ahead, (0.05, 0.95), (0.06, 0.92)), glass), (streak, glass * 1.35))


def wheels(length: float, width: float, radius: float = 0.32, axles: int = 2) -> list[Panel]:
    """Wheels on both sides, and the dark tyres seen from behind and ahead."""
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
