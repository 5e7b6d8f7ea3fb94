"""Plan the vehicles, cyclists and people that move along the street of a drive."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.drive.blocks import BLOCK, StreetBlock, instance_number
from pipeline.synthetic.drive.objects import Thing, make_person, make_vehicle
from pipeline.synthetic.drive.plan import CAR_HALF_WIDTH, Plan
from pipeline.synthetic.solids import Pose

SPEED = 8.0
"""Of the camera, meters per second."""

_WALKING, _CYCLING = 1.3, 4.4  # Meters per second.
_MOST_VEHICLES, _MOST_PEOPLE = 3, 5  # Of a stream, in a block; below the distance of its slots.
_GAP_AHEAD = 26.0  # Meters; nearer, the vehicle ahead would hide the street.
_ONCOMING, _OVERTAKEN = -8.5, 6.0


@dataclass(frozen=True)
class Stream:
    """Things that move along the street together, `speed` meters per second; x in meters.

    `slot` is the first of the numbers of its instances in a block, `share` how many things a block
    has on average; before `start`, meters along the stream, there is nothing.
    """

    kind: str
    x: tuple[float, float]
    speed: float
    slot: int
    share: float
    start: float = -math.inf

    def fill(self, rng: np.random.Generator, number: int) -> StreetBlock:
        """Plan one block; blocks move with the stream."""
        most = _MOST_VEHICLES if self.kind == "vehicle" else _MOST_PEOPLE
        count = min(most, int(rng.poisson(self.share)))
        things: list[Thing] = []
        pitch = BLOCK / max(count, 1)
        for n in range(count):
            # Each in its own part of the block, so that nobody runs into the next one.
            z = number * BLOCK + (n + float(rng.uniform(0.3, 0.7))) * pitch
            if z < self.start:
                continue
            heading = (0.0 if self.speed > 0 else np.pi) + float(rng.normal(0, 0.015))
            pose = Pose(float(rng.uniform(*self.x)), z, heading)
            seed, at = int(rng.integers(1 << 31)), instance_number(number, self.slot + n)
            things.append(self._make(rng, pose, at, seed))
        return StreetBlock(tuple(things))

    def _make(self, rng: np.random.Generator, pose: Pose, number: int, seed: int) -> Thing:
        if self.kind == "person":
            turned = Pose(pose.x, pose.z, pose.heading + float(rng.normal(0, 0.08)))
            return make_person(turned, speed=self.speed, number=number, seed=seed)
        if self.kind == "cyclist":
            return make_vehicle("bicycle", pose, number=number, seed=seed, drives=True)
        name = str(rng.choice(("car", "truck", "bus", "motorcycle"), p=(0.82, 0.07, 0.07, 0.04)))
        return make_vehicle(name, pose, number=number, seed=seed, drives=True)


def plan_streams(plan: Plan) -> list[Stream]:
    """List the streams of vehicles, cyclists and people of a street."""
    street = plan.street
    oncoming = 2 * street.divider
    streams = [
        Stream("vehicle", (-0.2, 0.2), SPEED, 36, 1.4, start=_GAP_AHEAD),
        Stream("vehicle", (oncoming - 0.2, oncoming + 0.2), _ONCOMING, 40, 1.4),
    ]
    for slot, lane in zip((44, 47), street.lanes, strict=False):
        x = lane + float(np.sign(lane)) * 1.6
        speed = _OVERTAKEN if lane > 0 else 1.15 * _ONCOMING
        streams.append(Stream("vehicle", (x - 0.2, x + 0.2), speed, slot, 1.0))
    density = min(2.5, 0.4 + street.pedestrian_density)
    for side_plan, slot in zip(plan.sides, (20, 30), strict=True):
        side = side_plan.side
        inner, outer = side.pavement[0] + 1.1, side.pavement[1] - 1.3
        middle = (inner + outer) / 2
        for n, (speed, ends) in enumerate(
            ((_WALKING, (middle, outer)), (-_WALKING, (inner, middle)))
        ):
            left, right = sorted(side.sign * end for end in ends)
            speed *= 0.9 + 0.1 * n
            streams.append(Stream("person", (left, right), speed, slot + 5 * n, density))
    if not plan.sides[0].parks and street.left.curb > -oncoming + CAR_HALF_WIDTH + 0.7:
        x = 0.5 - street.left.curb
        streams.append(Stream("cyclist", (x, x + 0.1), -_CYCLING, 20, 0.5))
    if not plan.sides[1].parks and street.right.curb > 2.4 and not street.lanes:
        x = street.right.curb - 0.5
        streams.append(Stream("cyclist", (x - 0.1, x), _CYCLING, 30, 0.5))
    return streams
