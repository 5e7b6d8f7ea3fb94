"""Place moving and parked vehicles and riders without overlap."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from pipeline.synthetic import heavy, people
from pipeline.synthetic.cars import paint_car
from pipeline.synthetic.shadows import cast_object_shadow
from pipeline.synthetic.solids import Pose
from pipeline.synthetic.street import Side, Street
from pipeline.synthetic.view import View

Drawable = tuple[float, Callable[[], None]]
"""The distance of an object in meters, and the function that paints it."""

Paint = Callable[[View, Pose, int], None]

KINDS: dict[str, tuple[tuple[float, float], float, Paint]] = {
    # name: half the width and length, and the height, in meters; what paints it
    "car": ((0.95, 2.25), 1.4, paint_car),
    "truck": ((1.25, 4.5), 3.2, heavy.paint_truck),
    "bus": ((1.3, 5.8), 3.0, heavy.paint_bus),
    "train": ((1.25, 13.0), 3.4, heavy.paint_tram),
    "caravan": ((1.1, 2.5), 2.4, heavy.paint_caravan),
    "trailer": ((0.85, 1.3), 1.4, heavy.paint_trailer),
    "motorcycle": ((0.3, 1.0), 0.9, people.paint_motorcycle),
    "bicycle": ((0.15, 0.8), 0.7, people.paint_bicycle),
}
"""The size of each kind of vehicle, and the function that paints it."""
_DRIVING = ("car", "truck", "bus", "motorcycle")
_DRIVING_SHARE = (0.866, 0.052, 0.058, 0.024)
_PARKED = ("car", "truck", "caravan", "trailer")
_PARKED_SHARE = (0.957, 0.020, 0.008, 0.015)
_GAP = 0.25
"""Meters; a vehicle closer than this to another one is left out."""


class Traffic:
    """The vehicles of one frame, and the ground that they take."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._occupied: list[tuple[float, float, float, float]] = []

    def place_driving(self, street: Street) -> list[Drawable]:
        """Place vehicles that drive or wait in the lanes."""
        rng = self._view.rng
        items: list[Drawable] = []
        lanes = [(0.0, 0.0, rng.uniform(12, 65)), (2 * street.divider, np.pi, rng.uniform(7, 36))]
        lanes += [
            (lane + np.sign(lane) * 1.6, 0.0 if lane > 0 else np.pi, rng.uniform(8, 30))
            for lane in street.lanes
        ]
        if street.rails is not None and rng.random() < 0.85:
            heading = float(np.pi * rng.integers(2))
            items += self._place_vehicle(
                Pose(street.rails, float(rng.uniform(30, 75)), heading), "train"
            )
            lanes = [lane for lane in lanes if abs(lane[0] - street.rails) > 2.4]
        for x, heading, z in lanes:
            place = float(z)
            while place < 100:
                name = str(rng.choice(_DRIVING, p=_DRIVING_SHARE))
                pose = Pose(x + rng.uniform(-0.25, 0.25), place, heading + rng.uniform(-0.03, 0.03))
                if name in ("truck", "bus"):
                    pose = Pose(pose.x, place + float(rng.uniform(14, 34)), pose.heading)
                items += (
                    self._place_with_rider(pose, name)
                    if name == "motorcycle"
                    else self._place_vehicle(pose, name)
                )
                place = pose.z + 6 + float(rng.exponential(34))
        return items

    def place_parked(self, street: Street, side: Side) -> list[Drawable]:
        """Place vehicles parked along one curb."""
        rng = self._view.rng
        items: list[Drawable] = []
        lane = side.sign * (side.curb - 1.05)
        if side.curb < 3.4 or rng.random() < 0.25:
            return []
        place = float(rng.uniform(6, 14))
        while place < 90:
            crossing = side.crossing
            free = crossing is None or not crossing[0] - 4 < place < crossing[1] + 4
            if free and rng.random() < street.parked_share:
                heading = (0.0 if side.sign > 0 else np.pi) + rng.normal(0, 0.02)
                name = str(rng.choice(_PARKED, p=_PARKED_SHARE))
                items += self._place_vehicle(Pose(lane, place, float(heading)), name)
            place += float(rng.uniform(5.6, 6.6))
        return items

    def place_leaning_bikes(self, side: Side) -> list[Drawable]:
        """Place bicycles and motorcycles parked on one sidewalk."""
        rng = self._view.rng
        items: list[Drawable] = []
        for _ in range(int(rng.poisson(0.9))):
            z = float(rng.uniform(6.5, 35))
            x = side.sign * (side.curb + rng.uniform(0.4, 0.9))
            pose = Pose(x, z, float(rng.choice((0, np.pi / 2)) + rng.normal(0, 0.25)))
            items += self._place_vehicle(pose, "bicycle" if rng.random() < 0.9 else "motorcycle")
        return items

    def place_cyclists(self, street: Street) -> list[Drawable]:
        """Place riders along the curbs, and occasionally one who crosses."""
        rng = self._view.rng
        items: list[Drawable] = []
        for _ in range(int(rng.poisson(0.6))):
            onward = rng.random() < 0.5
            x = street.right.curb - 0.9 if onward else -street.left.curb + 0.9
            heading = (0.0 if onward else np.pi) + rng.normal(0, 0.25)
            if rng.random() < 0.2:
                x, heading = rng.uniform(-3, 3), np.pi / 2 * rng.choice((-1, 1))
            pose = Pose(float(x), float(rng.uniform(8, 45)), float(heading))
            items += self._place_with_rider(
                pose, "bicycle" if rng.random() < 0.85 else "motorcycle"
            )
        return items

    def _place_vehicle(self, pose: Pose, name: str) -> list[Drawable]:
        """Cast a vehicle's shadow and return its drawable, or nothing if its place is occupied."""
        half, height, paint = KINDS[name]
        turned = abs(math.sin(pose.heading)) > 0.7
        half = half[::-1] if turned else half
        if any(
            abs(pose.x - x) < half[0] + broad + _GAP and abs(pose.z - z) < half[1] + long + _GAP
            for x, z, broad, long in self._occupied
        ):
            return []
        self._occupied.append((pose.x, pose.z, *half))
        dark = 0.5 if name in ("bicycle", "motorcycle") else 0.8
        cast_object_shadow(self._view, (pose.x, pose.z), half, height, dark)
        identity = self._view.canvas.new_instance(name, pose.z)
        return [(pose.z, partial(paint, self._view, pose, identity))]

    def _place_with_rider(self, pose: Pose, vehicle: str) -> list[Drawable]:
        """Return a two-wheeler and its rider, who is painted over it."""
        view = self._view
        items = self._place_vehicle(pose, vehicle)
        if items:
            motor = vehicle == "motorcycle"
            helmet = motor or bool(view.rng.random() < 0.4)
            limbs = people.build_rider(view.rng, 0.78 if motor else 0.80, helmet)
            identity = view.canvas.new_instance("rider", pose.z)
            # A hair's breadth nearer than the vehicle: the list is sorted by depth.
            nearer = pose.z - 0.01
            items.append((nearer, partial(people.paint_limbs, view, limbs, pose, identity)))
        return items
