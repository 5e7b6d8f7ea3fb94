"""Large vehicles: trucks, buses, trams, and occasionally a caravan or a trailer."""

import math
from dataclasses import replace
from functools import cache

import numpy as np

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.cars import wheels
from pipeline.synthetic.solids import Body, Panel, Pose, Tone, box_sides, paint_solid, rectangle
from pipeline.synthetic.view import View, pick_color, rgb

_LIVERY = np.array(
    [(0.72, 0.14, 0.12), (0.80, 0.66, 0.14), (0.84, 0.84, 0.82), (0.20, 0.36, 0.60),
     (0.22, 0.46, 0.34), (0.60, 0.62, 0.64)],
    np.float32,
)  # fmt: skip
_CARGO = np.array(
    [(0.84, 0.84, 0.82), (0.22, 0.34, 0.58), (0.66, 0.22, 0.16), (0.70, 0.68, 0.62),
     (0.24, 0.40, 0.30), (0.80, 0.62, 0.20)],
    np.float32,
)  # fmt: skip
_DARK, _LAMP_BACK, _LAMP_AHEAD = rgb(0.10, 0.10, 0.11), rgb(0.6, 0.06, 0.05), rgb(0.9, 0.9, 0.85)


def _glass(view: View) -> FloatArray:
    return rgb(0.12, 0.14, 0.17) + np.float32(0.2) * view.light.zenith


def _shift(panels: list[Panel], z: float) -> list[Panel]:
    move = np.array([0, 0, z], np.float32)
    return [
        replace(panel, corners=panel.corners + move,
                decals=tuple((points + move, color) for points, color in panel.decals))
        for panel in panels
    ]  # fmt: skip


def _coach_panels(half: tuple[float, float], height: tuple[float, float]) -> list[Panel]:
    """A box with a band of windows, doors and lamps: a bus, or one section of a tram."""
    windows = max(3, round(half[1] * 2 / 1.5))
    panels = []
    for name, (corners, out) in box_sides(half, height).items():
        marks: list[tuple[FloatArray, Tone]] = []
        if name in ("left", "right"):
            marks.append((rectangle(corners, (0, 1), (0, 0.10)), _DARK))
            marks.append((rectangle(corners, (0, 1), (0.16, 0.26)), "stripe"))
            for n in range(windows):
                door = n % 4 == 1
                part = ((n + 0.07) / windows, (n + 0.93) / windows)
                marks.append((rectangle(corners, part, (0.08 if door else 0.42, 0.84)), "glass"))
        elif name in ("back", "ahead"):
            lamp = _LAMP_BACK if name == "back" else _LAMP_AHEAD
            low = 0.50 if name == "back" else 0.32
            marks.append((rectangle(corners, (0, 1), (0, 0.12)), _DARK))
            marks.append((rectangle(corners, (0, 1), (0.20, 0.28)), "stripe"))
            marks.append((rectangle(corners, (0.07, 0.93), (low, 0.84)), "glass"))
            marks.append((rectangle(corners, (0.22, 0.78), (0.87, 0.96)), rgb(0.16, 0.13, 0.05)))
            marks += [(rectangle(corners, s, (0.13, 0.20)), lamp)
                      for s in ((0.04, 0.18), (0.82, 0.96))]  # fmt: skip
        panels.append(Panel(corners, out, "body", tuple(marks)))
    return panels


def _livery(view: View) -> dict[str, FloatArray]:
    rng = view.rng
    return {
        "body": pick_color(rng, _LIVERY),
        "stripe": pick_color(rng, _LIVERY),
        "glass": _glass(view),
    }


def paint_bus(view: View, pose: Pose, identity: int) -> None:
    """Paint a city bus of about eleven meters."""
    paint_solid(view, _bus(), pose, identity, _livery(view))


@cache
def _bus() -> Body:
    return Body(_coach_panels((1.25, 5.6), (0.32, 3.05)) + wheels(10.5, 2.5, 0.46))


def paint_tram(view: View, pose: Pose, identity: int) -> None:
    """Paint a tram of three sections."""
    gangways, *sections = _tram()
    colors = _livery(view)
    paint_solid(view, gangways, pose, identity)
    for section in reversed(sections) if math.cos(pose.heading) > 0 else sections:
        paint_solid(view, section, pose, identity, colors)


@cache
def _tram() -> tuple[Body, ...]:
    """Return the joints of the sections, then the sections, the last one first."""
    long = 8.6
    inside = box_sides((1.08, 1.5 * long - 0.4), (0.35, 3.3)).values()
    section = _coach_panels((1.2, long / 2 - 0.25), (0.25, 3.5))
    return (
        Body([Panel(corners, out, _DARK) for corners, out in inside]),
        *(Body(_shift(section, z)) for z in (-long, 0.0, long)),
    )


def paint_truck(view: View, pose: Pose, identity: int) -> None:
    """Paint a truck: a box or a tarpaulin behind a cab."""
    rng = view.rng
    long = rng.uniform(4.2, 7.0)
    tall = rng.uniform(2.7, 3.7)
    cargo, cab = pick_color(rng, _CARGO), pick_color(rng, _CARGO)
    glass = _glass(view)
    load = []
    for name, (corners, out) in box_sides((1.22, long / 2), (0.75, tall)).items():
        marks: list[tuple[FloatArray, Tone]] = [(rectangle(corners, (0, 1), (0, 0.05)), _DARK)]
        if name in ("left", "right"):
            marks.append((rectangle(corners, (0.15, 0.85), (0.35, 0.72)), pick_color(rng, _CARGO)))
        if name == "back":
            marks.append((rectangle(corners, (0.495, 0.505), (0, 1)), cargo * 0.5))
            marks += [(rectangle(corners, s, (0.02, 0.07)), _LAMP_BACK)
                      for s in ((0.02, 0.2), (0.8, 0.98))]  # fmt: skip
        load.append(Panel(corners, out, cargo, tuple(marks)))
    frame = [Panel(c, out, _DARK) for c, out in box_sides((1.0, long / 2), (0.45, 0.75)).values()]
    bodies = [_shift(frame, -1.0), _shift(load, -1.0), _shift(_truck_cab(cab, glass), long / 2)]
    if math.cos(pose.heading) > 0:
        bodies.reverse()
    for body in (*bodies, wheels(long + 1.5, 2.4, 0.48, 3)):
        paint_solid(view, Body(body), pose, identity)


def _truck_cab(color: FloatArray, glass: FloatArray) -> list[Panel]:
    panels = []
    for name, (corners, out) in box_sides((1.18, 0.9), (0.5, 2.7)).items():
        marks: list[tuple[FloatArray, Tone]] = []
        if name == "ahead":
            marks = [
                (rectangle(corners, (0.06, 0.94), (0.52, 0.88)), glass),
                (rectangle(corners, (0.2, 0.8), (0.18, 0.42)), _DARK),
                (rectangle(corners, (0.03, 0.2), (0.04, 0.14)), _LAMP_AHEAD),
                (rectangle(corners, (0.8, 0.97), (0.04, 0.14)), _LAMP_AHEAD),
            ]
        elif name in ("left", "right"):
            marks = [(rectangle(corners, (0.2, 0.85), (0.52, 0.86)), glass)]
        panels.append(Panel(corners, out, color, tuple(marks)))
    return panels


def paint_caravan(view: View, pose: Pose, identity: int) -> None:
    """Paint a parked caravan, one of the classes that are not scored."""
    colors = {"body": rgb(0.85, 0.84, 0.80), "stripe": rgb(0.5, 0.4, 0.3), "glass": _glass(view)}
    paint_solid(view, _caravan(), pose, identity, colors)


@cache
def _caravan() -> Body:
    return Body(_coach_panels((1.1, 2.4), (0.4, 2.5)) + wheels(2.2, 2.2, 0.3, 1))


def paint_trailer(view: View, pose: Pose, identity: int) -> None:
    """Paint a trailer left at the curb: a low box under a tarpaulin."""
    colors = {"body": pick_color(view.rng, _CARGO)}
    paint_solid(view, _trailer(), pose, identity, colors)


@cache
def _trailer() -> Body:
    panels = [
        Panel(corners, out, "body", ((rectangle(corners, (0, 1), (0, 0.3)), _DARK),))
        for corners, out in box_sides((0.85, 1.3), (0.45, 1.5)).values()
    ]
    return Body(panels + wheels(1.4, 1.7, 0.3, 1))
