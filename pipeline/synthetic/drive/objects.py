"""The objects of a drive: how each is painted and casts its shadow in any frame."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.synthetic import furniture, people, plants
from pipeline.synthetic.canvas import instance_id
from pipeline.synthetic.shadows import cast_object_shadow, cast_tree_shadow
from pipeline.synthetic.solids import Pose
from pipeline.synthetic.traffic import KINDS
from pipeline.synthetic.view import View

BEYOND, BOUNDARY, STREET = 0, 1, 2
"""Layers, painted in this order: beyond the fence or hedge, itself, and what is in the street."""

_STEP = 0.34  # Meters from the hips to the foot at the end of a step of an adult of 1.75 m.
_PEDAL_TURNS = 1.1  # Of a cyclist's pedals, per second.


@dataclass(frozen=True)
class Moment:
    """Where an object is in one frame: meters ahead of the camera, and seconds of the drive."""

    z: float
    time: float


Paint = Callable[[View, Moment], None]


@dataclass(frozen=True)
class Thing:
    """An object of a drive.

    `z` is its middle, meters along its stream, and `reach` half its length; it lies between
    `sides` (x, left and right) and below `height` meters. `seed` decides its looks, the same in
    every frame; it appears at `sight` meters; `layer` orders it.
    """

    z: float
    sides: tuple[float, float]
    height: float
    seed: int
    paint: Paint
    shade: Paint | None = None
    reach: float = 0.5
    sight: float = 150.0
    layer: int = STREET


def make_tree(at: tuple[float, float], size: float, kind: int, seed: int, layer: int) -> Thing:
    """A tree `size` meters tall at (x, z)."""
    x, z = at

    def paint(view: View, moment: Moment) -> None:
        plants.paint_tree(view, (x, moment.z), size, kind)

    def shade(view: View, moment: Moment) -> None:
        cast_tree_shadow(view, (x, moment.z), size)

    sides = (x - 0.6 * size, x + 0.6 * size)
    return Thing(z, sides, 1.2 * size, seed, paint, shade, reach=0.4 * size, sight=28.0 * size,
                 layer=layer)  # fmt: skip


def make_vehicle(name: str, pose: Pose, *, number: int, seed: int, drives: bool = False) -> Thing:
    """A vehicle that drives or is parked; its number tells it from others of its class."""
    half, height, paint_vehicle = KINDS[name]
    half = half[::-1] if abs(math.sin(pose.heading)) > 0.7 else half
    rider = drives and name in ("bicycle", "motorcycle")

    def paint(view: View, moment: Moment) -> None:
        here = Pose(pose.x, moment.z, pose.heading)
        paint_vehicle(view, here, instance_id(name, number, moment.z))
        if rider:
            motor = name == "motorcycle"
            pedal = 0.5 if motor else 2 * math.pi * (moment.time * _PEDAL_TURNS + seed % 64 / 64)
            helmet = motor or seed % 5 < 2
            limbs = people.build_rider(view.rng, 0.78 if motor else 0.80, helmet, pedal=pedal)
            people.paint_limbs(view, limbs, here, instance_id("rider", number, moment.z))

    def shade(view: View, moment: Moment) -> None:
        dark = 0.5 if name in ("bicycle", "motorcycle") else 0.8
        cast_object_shadow(view, (pose.x, moment.z), half, height, dark)

    sides = (pose.x - half[0] - 0.4, pose.x + half[0] + 0.4)
    sight = (400.0 if drives else 170.0) * min(1.0, height / 1.4)
    return Thing(pose.z, sides, height + 1.2, seed, paint, shade, reach=half[1] + 0.3,
                 sight=sight)  # fmt: skip


def make_person(pose: Pose, *, speed: float, number: int, seed: int) -> Thing:
    """A person who walks at `speed` meters per second, or stands."""
    height = float(np.clip(np.random.default_rng(seed).normal(1.72, 0.09), 1.1, 1.95))

    def paint(view: View, moment: Moment) -> None:
        reach = _STEP * height / 1.75
        # The foot on the ground stays where it is: it goes back as fast as the body goes ahead.
        turn = moment.time * abs(speed) / (4 * reach) + seed % 64 / 64
        stride = reach * (4 * abs(turn - math.floor(turn + 0.5)) - 1) if speed else 0.05
        limbs = people.build_walker(view.rng, height, stride=stride)
        here = Pose(pose.x, moment.z, pose.heading)
        people.paint_limbs(view, limbs, here, instance_id("person", number, moment.z))

    def shade(view: View, moment: Moment) -> None:
        cast_object_shadow(view, (pose.x, moment.z), (0.22, 0.22), height)

    sides = (pose.x - 0.6, pose.x + 0.6)
    return Thing(pose.z, sides, 2.1, seed, paint, shade, sight=140.0)


def make_box(name: str, pose: Pose, half: tuple[float, float], height: float, seed: int) -> Thing:
    """A bin, a cabinet or a kiosk, with the label `name`."""

    def paint(view: View, moment: Moment) -> None:
        here = Pose(pose.x, moment.z, pose.heading)
        furniture.paint_box(view, here, half, height, name)

    def shade(view: View, moment: Moment) -> None:
        cast_object_shadow(view, (pose.x, moment.z), half, height)

    sides = (pose.x - 0.8, pose.x + 0.8)
    return Thing(pose.z, sides, height + 0.1, seed, paint, shade, sight=120.0)


def make_upright(
    paint: Callable[[View, float, float], None],
    at: tuple[float, float],
    seed: int,
    sight: float = 150.0,
) -> Thing:
    """A lamp, a sign, a traffic light or a post at (x, z), painted by a function of furniture."""
    x, z = at
    sides = (x - 4.0, x + 4.0)
    return Thing(z, sides, 10.0, seed, lambda view, moment: paint(view, x, moment.z), sight=sight)


def make_post(x: float, z: float, seed: int) -> Thing:
    """A low post that keeps cars off the sidewalk."""
    post = partial(furniture.paint_pole, height=0.95, radius=0.06)
    sides = (x - 0.2, x + 0.2)
    return Thing(z, sides, 1.1, seed, lambda view, moment: post(view, x, moment.z), sight=90.0)


def make_boundary(
    name: str, x: float, span: tuple[float, float], height: float, seed: int
) -> Thing:
    """A piece of a hedge, a wall or a fence along the street, from span[0] to span[1]."""
    half = (span[1] - span[0]) / 2

    def paint(view: View, moment: Moment) -> None:
        here = (moment.z - half, moment.z + half)
        if name == "hedge":
            plants.paint_hedge(view, x, here, height)
        elif name == "wall":
            furniture.paint_wall(view, x, here, height)
        else:
            furniture.paint_fence(view, x, here, height, "fence")

    sides = (x - 0.1, x + 0.1)
    return Thing(sum(span) / 2, sides, 1.3 * height, seed, paint, reach=half, sight=320.0,
                 layer=BOUNDARY)  # fmt: skip
