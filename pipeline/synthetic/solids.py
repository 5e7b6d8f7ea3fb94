"""Small solid bodies made of flat panels: turned, projected, lit, and painted far side first."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.view import View

_THIN = 1.4
"""Pixels of the canvas; a decal that is thinner is not worth painting."""


@dataclass(frozen=True)
class Panel:
    """A flat face and what is painted on it.

    `corners` (n, 3) metres in the body's own axes (x right, y up, z ahead); `out` its outward
    normal; `decals` are polygons (k, 3) on it with their colours; a `layer` is painted after all
    lower ones; a `glow` is not dimmed by the light (lamps).
    """

    corners: FloatArray
    out: FloatArray
    color: FloatArray
    decals: tuple[tuple[FloatArray, FloatArray], ...] = ()
    layer: int = 0
    gradient: float = 0.12


@dataclass(frozen=True)
class Pose:
    """Where a body stands: x and z in metres, and its heading, 0 away from the camera, radians."""

    x: float
    z: float
    heading: float

    def place(self, points: FloatArray) -> FloatArray:
        """(n, 3) points of the body -> (n, 3) world points."""
        turned = self.turn(points)
        turned[:, 0] += self.x
        turned[:, 2] += self.z
        return turned

    def turn(self, points: FloatArray) -> FloatArray:
        """(n, 3) directions of the body -> (n, 3) world directions."""
        cosine, sine = math.cos(self.heading), math.sin(self.heading)
        turned = points.copy()
        turned[:, 0] = points[:, 0] * cosine + points[:, 2] * sine
        turned[:, 2] = points[:, 2] * cosine - points[:, 0] * sine
        return turned


def paint_solid(view: View, panels: list[Panel], pose: Pose, identity: int) -> None:
    """Paint the panels of one body that face the camera."""
    normals = pose.turn(np.array([panel.out for panel in panels]))
    corners = [len(panel.corners) for panel in panels]
    sums = np.add.reduceat(
        np.concatenate([panel.corners for panel in panels]), np.cumsum([0, *corners[:-1]])
    )
    middles = pose.place(sums / np.array(corners)[:, None])
    toward = (normals * (middles - np.array([0, view.camera.height, 0]))).sum(axis=1)
    order = sorted(
        np.flatnonzero(toward < 0), key=lambda n: (panels[n].layer, -float(middles[n, 2]))
    )
    if not order:
        return
    outlines = [part for n in order for part in _outlines(panels[n])]
    ends = np.cumsum([len(outline) for outline in outlines])
    pixels = view.camera.project(pose.place(np.concatenate(outlines)))
    starts = np.concatenate([[0], ends[:-1]])
    sizes = np.maximum.reduceat(pixels, starts) - np.minimum.reduceat(pixels, starts)
    worth_it = sizes.min(axis=1) > _THIN
    number = 0
    for n in order:
        panel = panels[n]
        light = view.light.on(normals[n].astype(np.float32))
        colors = [panel.color * light, *(c * (0.35 + 0.65 * light) for _, c in panel.decals)]
        for part, color in enumerate(colors):
            mark = pixels[starts[number] : ends[number]]
            if part == 0:
                view.canvas.polygon(mark, color, identity, pose.z, panel.gradient)
            elif worth_it[number]:
                view.canvas.polygon(mark, color, None, pose.z)
            number += 1


def _outlines(panel: Panel) -> list[FloatArray]:
    return [panel.corners, *(points for points, _ in panel.decals)]


def quad(*corners: tuple[float, float, float]) -> FloatArray:
    """(n, 3) float32 from corner points."""
    return np.array(corners, np.float32)


def on_quad(corners: FloatArray, *places: tuple[float, float]) -> FloatArray:
    """(k, 3): points on a four-cornered panel, each given as its two shares along the edges.

    Corners run bottom left, bottom right, top right, top left; (0, 0) is the first, (1, 1) the
    third.
    """
    s, t = np.array(places, np.float32).T[..., None]
    low = corners[0] * (1 - s) + corners[1] * s
    high = corners[3] * (1 - s) + corners[2] * s
    points: FloatArray = low * (1 - t) + high * t
    return points


def rectangle(corners: FloatArray, s: tuple[float, float], t: tuple[float, float]) -> FloatArray:
    """(4, 3): the part of a four-cornered panel between two shares along each edge."""
    return on_quad(corners, (s[0], t[0]), (s[1], t[0]), (s[1], t[1]), (s[0], t[1]))


def disc(center: tuple[float, float, float], radius: float) -> FloatArray:
    """(16, 3): a wheel's outline in the plane x = center[0]."""
    return np.array(center, np.float32) + np.float32(radius) * _RIM


_TURN = np.arange(16, dtype=np.float32) * np.float32(2 * np.pi / 16)
_RIM = np.stack([np.zeros_like(_TURN), np.cos(_TURN), np.sin(_TURN)], axis=1)

LEFT, RIGHT = np.array([-1, 0, 0], np.float32), np.array([1, 0, 0], np.float32)
UP = np.array([0, 1, 0], np.float32)
BACK, AHEAD = np.array([0, 0, -1], np.float32), np.array([0, 0, 1], np.float32)


def box_sides(
    half: tuple[float, float], height: tuple[float, float]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Give the upright faces and the top of a box, each as (corners, outward normal).

    Args:
        half: half the width (x) and half the length (z), metres.
        height: bottom and top, metres.
    """
    x, z = half
    low, high = height
    return {
        "left": (quad((-x, low, -z), (-x, low, z), (-x, high, z), (-x, high, -z)), LEFT),
        "right": (quad((x, low, -z), (x, low, z), (x, high, z), (x, high, -z)), RIGHT),
        "back": (quad((-x, low, -z), (x, low, -z), (x, high, -z), (-x, high, -z)), BACK),
        "ahead": (quad((-x, low, z), (x, low, z), (x, high, z), (-x, high, z)), AHEAD),
        "top": (quad((-x, high, -z), (x, high, -z), (x, high, z), (-x, high, z)), UP),
    }
