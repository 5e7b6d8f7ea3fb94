"""Small solid bodies made of flat panels: turned, projected, lit, and painted far side first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.view import View

_MIN_DECAL_PIXELS = 1.4
"""Pixels of the canvas; thinner decals are not painted."""


Tone = FloatArray | str
"""A color (3,) RGB, or the name of a color that is chosen when the body is painted."""


@dataclass(frozen=True)
class Panel:
    """A flat face and what is painted on it.

    `corners` (n, 3) meters in the body's own axes (x right, y up, z ahead); `normal` its outward
    normal; `decals` are polygons (k, 3) on it with their colors; a `layer` is painted after all
    lower ones; `gradient` is how much brighter its top is than its bottom, as a fraction.
    """

    corners: FloatArray
    normal: FloatArray
    color: Tone
    decals: tuple[tuple[FloatArray, Tone], ...] = ()
    layer: int = 0
    gradient: float = 0.12


class Body:
    """Panels with their points in one array, built once and painted in many poses."""

    def __init__(self, panels: Sequence[Panel]) -> None:
        self.panels = panels
        self.normals = np.array([panel.normal for panel in panels])
        self.middles = np.array([panel.corners.sum(axis=0) for panel in panels])
        self.middles /= np.array([[len(panel.corners)] for panel in panels])
        outlines = [
            points for p in panels for points in (p.corners, *(decal for decal, _ in p.decals))
        ]
        self.points = np.concatenate(outlines)
        ends = np.cumsum([len(outline) for outline in outlines])
        self.starts = np.concatenate([[0], ends[:-1]])
        self.cuts = [slice(int(a), int(b)) for a, b in zip(self.starts, ends, strict=True)]
        firsts = np.cumsum([0, *(1 + len(panel.decals) for panel in panels[:-1])])
        self.firsts: list[int] = firsts.tolist()
        """The index of each panel's outline among all outlines; its decals follow."""


@dataclass(frozen=True)
class Pose:
    """The position of a body, x and z in meters, and its heading, radians; 0 looks ahead."""

    x: float
    z: float
    heading: float

    def to_world(self, points: FloatArray) -> FloatArray:
        """(n, 3) points of the body -> (n, 3) world points."""
        turned = self.rotate(points)
        turned[:, 0] += self.x
        turned[:, 2] += self.z
        return turned

    def rotate(self, points: FloatArray) -> FloatArray:
        """(n, 3) directions of the body -> (n, 3) world directions."""
        cosine, sine = math.cos(self.heading), math.sin(self.heading)
        turned = points.copy()
        turned[:, 0] = points[:, 0] * cosine + points[:, 2] * sine
        turned[:, 2] = points[:, 2] * cosine - points[:, 0] * sine
        return turned


def paint_solid(
    view: View,
    body: Body,
    pose: Pose,
    identity: int,
    colors: Mapping[str, FloatArray] | None = None,
) -> None:
    """Paint the panels of one body that face the camera, far ones first."""
    colors = colors or {}
    normals = pose.rotate(body.normals)
    middles = pose.to_world(body.middles)
    toward = (normals * (middles - np.array([0, view.camera.height, 0]))).sum(axis=1)
    away, seen = middles[:, 2].tolist(), np.flatnonzero(toward < 0).tolist()
    pixels = view.camera.project(pose.to_world(body.points))
    sizes = np.maximum.reduceat(pixels, body.starts) - np.minimum.reduceat(pixels, body.starts)
    worth_it = (sizes.min(axis=1) > _MIN_DECAL_PIXELS).tolist()
    panels = body.panels
    for n in sorted(seen, key=lambda n: (panels[n].layer, -away[n])):
        panel, first = panels[n], body.firsts[n]
        light = view.light.irradiance(normals[n])
        tone = _resolve_tone(panel.color, colors) * light
        view.canvas.polygon(pixels[body.cuts[first]], tone, identity, pose.z, panel.gradient)
        for number, (_, color) in enumerate(panel.decals, first + 1):
            if worth_it[number]:
                # Lamps, plates and paint shine a little by themselves.
                mark = _resolve_tone(color, colors) * (np.float32(0.35) + np.float32(0.65) * light)
                view.canvas.polygon(pixels[body.cuts[number]], mark, None, pose.z)


def _resolve_tone(color: Tone, colors: Mapping[str, FloatArray]) -> FloatArray:
    return colors[color] if isinstance(color, str) else color


def quad(*corners: tuple[float, float, float]) -> FloatArray:
    """(n, 3) float32 from corner points."""
    return np.array(corners, np.float32)


def interpolate_quad(corners: FloatArray, *places: tuple[float, float]) -> FloatArray:
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
    return interpolate_quad(corners, (s[0], t[0]), (s[1], t[0]), (s[1], t[1]), (s[0], t[1]))


def disc(center: tuple[float, float, float], radius: float) -> FloatArray:
    """(16, 3): a wheel's outline in the plane x = center[0]."""
    return np.array(center, np.float32) + np.float32(radius) * _RIM


_TURN = np.arange(16) * (2 * np.pi / 16)
_RIM = np.stack([np.zeros(16), np.cos(_TURN), np.sin(_TURN)], axis=1).astype(np.float32)

LEFT, RIGHT = np.array([-1, 0, 0], np.float32), np.array([1, 0, 0], np.float32)
UP = np.array([0, 1, 0], np.float32)
BACK, AHEAD = np.array([0, 0, -1], np.float32), np.array([0, 0, 1], np.float32)


def box_sides(
    half: tuple[float, float], height: tuple[float, float]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Give the upright faces and the top of a box, each as (corners, outward normal).

    Args:
        half: half the width (x) and half the length (z), meters.
        height: bottom and top, meters.
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
