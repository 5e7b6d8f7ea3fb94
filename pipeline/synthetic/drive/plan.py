"""Plan the street of a drive, and what stands along it, block by block."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.synthetic import furniture
from pipeline.synthetic.buildings import GAP_SHARE, Plot, draw_facade
from pipeline.synthetic.drive.blocks import BLOCK, StreetBlock, instance_number
from pipeline.synthetic.drive.objects import (
    BEYOND,
    STREET,
    Thing,
    make_boundary,
    make_box,
    make_person,
    make_post,
    make_tree,
    make_upright,
    make_vehicle,
)
from pipeline.synthetic.ground import draw_wear
from pipeline.synthetic.solids import Pose
from pipeline.synthetic.street import Side, Street, draw_street

CAR_HALF_WIDTH = 1.25
"""Meters to each side of a lane's middle that vehicles need."""

_PARKED_WIDTH = 2.05  # Meters from the curb that parked cars take.


@dataclass(frozen=True)
class SidePlan:
    """What one side of the street has everywhere; `trees` are (x, pitch, sizes) of rows."""

    side: Side
    boundary: tuple[str, float] | None
    trees: tuple[tuple[float, float, tuple[float, float]], ...]
    parks: bool
    lamp_seed: int


@dataclass(frozen=True)
class Plan:
    """The street of a drive: its cross-section, which it has everywhere, and both sides."""

    street: Street
    sides: tuple[SidePlan, SidePlan]


def draw_plan(rng: np.random.Generator) -> Plan:
    """Plan a street in which all vehicles fit beside each other."""
    street = draw_street(rng)
    while street.rails is not None or street.right.curb < CAR_HALF_WIDTH + 0.6:
        street = draw_street(rng)
    lanes = [0.0, 2 * street.divider, *(lane + np.sign(lane) * 1.6 for lane in street.lanes)]
    plans = []
    for side in street.sides:
        outermost = max(side.sign * lane for lane in lanes) + CAR_HALF_WIDTH
        fits = side.curb - _PARKED_WIDTH > outermost
        plans.append(_plan_side(rng, side, fits))
    return Plan(street, (plans[0], plans[1]))


def _plan_side(rng: np.random.Generator, side: Side, parks: bool) -> SidePlan:
    rows = []
    if side.kind == "avenue" or rng.random() < 0.3:
        rows.append((side.curb + 0.9, rng.uniform(7, 12), (6.5, 11.0)))
    if side.kind in ("park", "villas", "wall", "railing"):
        rows.append((side.pavement[1] + rng.uniform(2.0, 5.0), rng.uniform(5, 9), (5.0, 13.0)))
    if side.kind == "park":
        rows.append((side.facade + 1.0, rng.uniform(5, 7), (8.0, 15.0)))
    boundary = None
    if side.kind in ("villas", "wall", "park", "railing"):
        name = {"wall": "wall", "railing": "fence"}.get(side.kind)
        name = name or str(rng.choice(("hedge", "wall", "fence"), p=(0.45, 0.2, 0.35)))
        height = {"villas": 1.3, "wall": 2.3, "park": 1.3, "railing": 1.5}[side.kind]
        boundary = name, height * float(rng.uniform(0.75, 1.35))
    trees = tuple((float(x), float(pitch), sizes) for x, pitch, sizes in rows)
    return SidePlan(side, boundary, trees, parks, int(rng.integers(1 << 31)))


class BlockPlanner:
    """Fills one block of the street with what stands there; used once."""

    def __init__(self, rng: np.random.Generator, plan: Plan, number: int) -> None:
        self._rng, self._plan, self._number = rng, plan, number
        self._start = number * BLOCK
        self._counts: dict[str, int] = {}
        self._things: list[Thing] = []

    def fill(self) -> StreetBlock:
        """Plan both sides."""
        rng, start = self._rng, self._start
        zebras = (start + float(rng.uniform(40, 52)),) if rng.random() < 0.25 else ()
        wear = [(outline + np.array([0, start + shift]), factor)
                for shift in (0.0, 30.0) for outline, factor in draw_wear(rng)]  # fmt: skip
        crossings, houses = [], []
        for side in self._plan.sides:
            crossing: tuple[tuple[float, float], ...] = ()
            if rng.random() < 0.22:
                crossing = ((start + 2.0, start + 2.0 + float(rng.uniform(7, 12))),)
            crossings.append(crossing)
            free = crossing[0][1] if crossing else start
            houses.append(self._place_houses(side.side, free + 2.0 if crossing else start))
            self._place_along(side, free)
            for zebra in zebras:
                x = side.side.sign * (side.side.curb + 0.55)
                green = partial(furniture.paint_traffic_light, lamp=2)
                self._things.append(make_upright(green, (x, zebra - 0.5), self._seed(), 200.0))
        return StreetBlock(tuple(self._things), (houses[0], houses[1]), tuple(crossings), zebras,
                     tuple(wear))  # fmt: skip

    def _seed(self) -> int:
        return int(self._rng.integers(1 << 31))

    def _count(self, name: str) -> int:
        self._counts[name] = self._counts.get(name, -1) + 1
        return instance_number(self._number, self._counts[name])

    def _place_houses(self, side: Side, place: float) -> list[Plot]:
        rng, end = self._rng, self._start + BLOCK
        plots: list[Plot] = []
        while end - place > 5:
            stop = place + float(rng.uniform(9, 22))
            stop = end if end - stop < 9 else stop
            plots.append((place, stop, draw_facade(rng, int(rng.integers(*side.stories)) + 1)))
            place = stop
            if rng.random() < GAP_SHARE[side.kind]:
                place += float(rng.uniform(4, 22))
        return plots

    def _place_along(self, plan: SidePlan, start: float) -> None:
        """Everything of one side from `start` to the end of the block."""
        rng, side, end = self._rng, plan.side, self._start + BLOCK
        curb = side.sign * (side.curb + 0.55)
        self._place_boundary(plan, start)
        for x, pitch, sizes in plan.trees:
            layer = BEYOND if x > side.pavement[1] else STREET
            z = start + float(rng.uniform(1, pitch))
            while z < end - 1:
                at = (side.sign * (x + float(rng.uniform(-0.3, 0.3))), z)
                size = float(rng.uniform(*sizes))
                kind = self._plan.street.tree_kind
                self._things.append(make_tree(at, size, kind, self._seed(), layer))
                z += float(pitch * rng.uniform(0.7, 1.4))
        for z in (self._start + 14.0, self._start + 44.0):
            self._things.append(
                make_upright(furniture.paint_lamp, (curb, z), plan.lamp_seed, 240.0)
            )
        for _ in range(int(rng.poisson(1.3))):
            z = float(rng.uniform(start + 5, end))
            self._things.append(make_upright(furniture.paint_sign, (curb, z), self._seed()))
        if rng.random() < 0.2:
            seed = self._seed()
            self._things += [make_post(curb, float(z), seed)
                             for z in np.arange(start + 16, start + 40, 1.8)]  # fmt: skip
        self._place_boxes(side, start)
        self._place_parked(plan, start)
        self._place_standing(side, start)

    def _place_boundary(self, plan: SidePlan, start: float) -> None:
        if plan.boundary is None:
            return
        name, height = plan.boundary
        side, seed = plan.side, self._seed()
        x, span = side.sign * (side.pavement[1] + 0.25), (start, self._start + BLOCK)
        self._things.append(make_boundary(name, x, span, height, seed))

    def _place_boxes(self, side: Side, start: float) -> None:
        rng = self._rng
        inner, outer = side.pavement
        for name, share in (("static", 3.4), ("dynamic", 0.8)):
            for _ in range(int(rng.poisson(share))):
                edge = (inner + 0.3, inner + 0.9) if rng.random() < 0.3 else (outer - 0.9, outer)
                x = side.sign * float(rng.uniform(*edge))
                pose = Pose(x, float(rng.uniform(start + 3, self._start + BLOCK)),
                            float(rng.uniform(-0.4, 0.4)))  # fmt: skip
                half = (float(rng.uniform(0.2, 0.45)), float(rng.uniform(0.2, 0.5)))
                height = float(rng.uniform(0.7, 1.5))
                self._things.append(make_box(name, pose, half, height, self._seed()))

    def _place_parked(self, plan: SidePlan, start: float) -> None:
        rng, side = self._rng, plan.side
        if not plan.parks:
            return
        z = start + float(rng.uniform(4, 7))
        while z < self._start + BLOCK - 2.5:
            if rng.random() < 0.25 + 0.6 * self._plan.street.parked_share:
                heading = (0.0 if side.sign > 0 else np.pi) + float(rng.normal(0, 0.02))
                name = str(rng.choice(("car", "trailer"), p=(0.98, 0.02)))
                pose = Pose(side.sign * (side.curb - 1.05), z, heading)
                self._things.append(
                    make_vehicle(name, pose, number=self._count(name), seed=self._seed())
                )
            z += float(rng.uniform(5.6, 6.6))

    def _place_standing(self, side: Side, start: float) -> None:
        rng, end = self._rng, self._start + BLOCK
        for _ in range(min(9, int(rng.poisson(0.5 * self._plan.street.pedestrian_density)))):
            x = side.sign * float(rng.uniform(side.pavement[1] - 1.1, side.pavement[1] - 0.3))
            pose = Pose(x, float(rng.uniform(start, end)), float(rng.uniform(0, 2 * np.pi)))
            number = self._count("person")
            self._things.append(make_person(pose, speed=0, number=number, seed=self._seed()))
        for _ in range(min(9, int(rng.poisson(0.9)))):
            x = side.sign * (side.curb + float(rng.uniform(0.4, 0.9)))
            heading = float(rng.choice((0, np.pi / 2)) + rng.normal(0, 0.25))
            name = "bicycle" if rng.random() < 0.9 else "motorcycle"
            pose = Pose(x, float(rng.uniform(start + 4, end)), heading)
            self._things.append(
                make_vehicle(name, pose, number=self._count(name), seed=self._seed())
            )
