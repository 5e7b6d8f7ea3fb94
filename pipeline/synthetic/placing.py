"""Who stands where: traffic, parked cars, people, trees and furniture, each with its shadow."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from pipeline.synthetic import furniture, heavy, people, plants
from pipeline.synthetic.cars import paint_car
from pipeline.synthetic.ground import shade_below
from pipeline.synthetic.solids import Pose
from pipeline.synthetic.street import Side, Street
from pipeline.synthetic.view import View

Item = tuple[float, Callable[[], None]]
"""How far away something is, in metres, and what paints it."""


def place_all(view: View, street: Street) -> list[Item]:
    """Place everything that stands on the ground, and cast its shadow on it."""
    items = _place_traffic(view, street)
    for side in street.sides:
        items += _place_boundary(view, street, side)
        items += _place_parked(view, street, side)
        items += _place_trees(view, street, side)
        items += _place_furniture(view, street, side)
        items += _place_people(view, street, side)
    items += _place_cyclists(view, street)
    if view.rng.random() < 0.05:
        z = float(view.rng.uniform(35, 80))
        items.append((z, partial(furniture.paint_bridge, view, z)))
    return items


def _vehicle(view: View, pose: Pose, name: str) -> Item:
    """Cast a vehicle's shadow and return what paints it."""
    half, height, paint = {
        "car": ((0.95, 2.25), 1.4, paint_car),
        "truck": ((1.25, 4.5), 3.2, heavy.paint_truck),
        "bus": ((1.3, 5.8), 3.0, heavy.paint_bus),
        "train": ((1.25, 13.0), 3.4, heavy.paint_tram),
        "caravan": ((1.1, 2.5), 2.4, heavy.paint_caravan),
        "motorcycle": ((0.3, 1.0), 0.9, people.paint_motorcycle),
        "bicycle": ((0.15, 0.8), 0.7, people.paint_bicycle),
    }[name]
    turned = abs(np.sin(pose.heading)) > 0.7
    dark = 0.5 if name in ("bicycle", "motorcycle") else 0.8
    shade_below(view, (pose.x, pose.z), half[::-1] if turned else half, height, dark)
    identity = view.canvas.new_instance(name)
    return pose.z, partial(paint, view, pose, identity)


_TRAFFIC = ("car", "truck", "bus", "motorcycle")
_TRAFFIC_SHARE = (0.882, 0.040, 0.052, 0.026)


def _place_traffic(view: View, street: Street) -> list[Item]:
    rng = view.rng
    items: list[Item] = []
    lanes = [(0.0, 0.0, rng.uniform(12, 65)), (2 * street.divider, np.pi, rng.uniform(7, 36))]
    lanes += [
        (lane + np.sign(lane) * 1.6, 0.0 if lane > 0 else np.pi, rng.uniform(8, 30))
        for lane in street.lanes
    ]
    if street.rails is not None and rng.random() < 0.85:
        pose = Pose(street.rails, float(rng.uniform(30, 75)), float(np.pi * rng.integers(2)))
        items.append(_vehicle(view, pose, "train"))
        lanes = [lane for lane in lanes if abs(lane[0] - street.rails) > 2.4]
    for x, heading, z in lanes:
        place = float(z)
        while place < 100:
            name = str(rng.choice(_TRAFFIC, p=_TRAFFIC_SHARE))
            pose = Pose(x + rng.uniform(-0.25, 0.25), place, heading + rng.uniform(-0.03, 0.03))
            if name in ("truck", "bus"):
                pose = Pose(pose.x, place + float(rng.uniform(14, 34)), pose.heading)
            if name == "motorcycle":
                items += _rider(view, pose, name)
            else:
                items.append(_vehicle(view, pose, name))
            place = pose.z + 6 + float(rng.exponential(34))
    return items


def _rider(view: View, pose: Pose, vehicle: str) -> list[Item]:
    """A vehicle on two wheels and the rider on it; the rider is painted over the vehicle."""
    motor = vehicle == "motorcycle"
    below = _vehicle(view, pose, vehicle)
    limbs = people.rider(view.rng, 0.78 if motor else 0.80, motor or view.rng.random() < 0.4)
    identity = view.canvas.new_instance("rider")
    # A hair's breadth nearer than the vehicle: the list is sorted by depth.
    return [below, (pose.z - 0.01, partial(people.paint_limbs, view, limbs, pose, identity))]


def _place_cyclists(view: View, street: Street) -> list[Item]:
    rng = view.rng
    items: list[Item] = []
    for _ in range(int(rng.poisson(0.6))):
        onward = rng.random() < 0.5
        x = street.right.kerb - 0.9 if onward else -street.left.kerb + 0.9
        heading = (0.0 if onward else np.pi) + rng.normal(0, 0.25)
        if rng.random() < 0.2:
            x, heading = rng.uniform(-3, 3), np.pi / 2 * rng.choice((-1, 1))
        pose = Pose(float(x), float(rng.uniform(8, 45)), float(heading))
        items += _rider(view, pose, "bicycle" if rng.random() < 0.85 else "motorcycle")
    return items


def _place_parked(view: View, street: Street, side: Side) -> list[Item]:
    rng = view.rng
    items: list[Item] = []
    lane = side.sign * (side.kerb - 1.05)
    if side.kerb < 3.4 or rng.random() < 0.25:
        return []
    place = float(rng.uniform(6, 14))
    while place < 90:
        crossing = side.crossing
        free = crossing is None or not crossing[0] - 4 < place < crossing[1] + 4
        if free and rng.random() < street.parked:
            heading = (0.0 if side.sign > 0 else np.pi) + rng.normal(0, 0.02)
            name = str(rng.choice(("car", "truck", "caravan"), p=(0.974, 0.014, 0.012)))
            items.append(_vehicle(view, Pose(lane, place, float(heading)), name))
        place += float(rng.uniform(5.6, 6.6))
    return items


def _place_boundary(view: View, street: Street, side: Side) -> list[Item]:
    """Hedges, walls and fences where the pavement ends, in pieces so that they sort by depth."""
    rng = view.rng
    items: list[Item] = []
    if side.kind not in ("villas", "wall", "park", "railing"):
        return []
    x = side.sign * (side.pavement[1] + 0.25)
    height = {"villas": 1.3, "wall": 2.3, "park": 1.3, "railing": 1.5}[side.kind]
    height *= float(rng.uniform(0.75, 1.35))
    name = {"villas": "mixed", "wall": "wall", "park": "mixed", "railing": "fence"}[side.kind]
    if name == "mixed":
        name = str(rng.choice(("hedge", "wall", "fence"), p=(0.35, 0.2, 0.45)))
    pieces = np.append(np.arange(0.0, 100.0, 12.5), min(street.end, 160.0))
    for start, stop in pairwise(pieces):
        crossing = side.crossing
        if crossing is not None and start < crossing[1] and stop > crossing[0]:
            continue
        span = (float(start), float(stop))
        if name == "hedge":
            paint = partial(plants.paint_hedge, view, x, span, height)
        elif name == "wall":
            paint = partial(furniture.paint_wall, view, x, span, height)
        else:
            kind = "guard rail" if rng.random() < 0.02 else "fence"
            paint = partial(furniture.paint_fence, view, x, span, height, kind)
        items.append((float(stop), paint))
    return items


def _place_trees(view: View, street: Street, side: Side) -> list[Item]:
    rng = view.rng
    items: list[Item] = []
    rows = []
    leaves = street.leaves
    if side.kind == "avenue" or rng.random() < 0.25:
        rows.append((side.kerb + 0.9, rng.uniform(6, 11), (6.5, 11.0)))
    if side.kind in ("park", "villas", "wall", "railing"):
        rows.append((side.pavement[1] + rng.uniform(2.0, 5.0), rng.uniform(4, 9), (5.0, 13.0)))
    if side.kind == "park":
        rows.append((side.facade + 1.0, rng.uniform(4, 6), (8.0, 15.0)))
    for x, pitch, sizes in rows:
        place = float(rng.uniform(5, 14))
        while place < 120:
            size = float(rng.uniform(*sizes))
            at = (side.sign * (x + rng.uniform(-0.3, 0.3)), place)
            crossing = side.crossing
            if crossing is None or not crossing[0] - 1 < place < crossing[1] + 1:
                shade_below(view, at, (0.25 * size, 0.25 * size), 0)
                items.append((place, partial(plants.paint_tree, view, at, size, leaves)))
            place += float(pitch * rng.uniform(0.7, 1.4))
    return items


def _place_furniture(view: View, street: Street, side: Side) -> list[Item]:
    rng = view.rng
    items: list[Item] = []
    x = side.sign * (side.kerb + 0.55)
    for place in np.arange(rng.uniform(9, 30), 110, rng.uniform(22, 32)):
        z = float(place)
        items.append((z, partial(furniture.paint_lamp, view, x, z)))
    for _ in range(int(rng.poisson(1.5))):
        z = float(rng.uniform(8, 50))
        items.append((z, partial(furniture.paint_sign, view, x, z)))
    if rng.random() < (0.3 if street.zebra is None else 0.85):
        z = float(rng.uniform(9, 40)) if street.zebra is None else street.zebra - 0.5
        items.append((z, partial(furniture.paint_traffic_light, view, x, z)))
    if rng.random() < 0.2:
        for z in np.arange(rng.uniform(7, 14), rng.uniform(20, 40), 1.8):
            post = partial(furniture.paint_pole, view, x, float(z), 0.95, 0.06)
            items.append((float(z), post))
    for name, share in (("static", 3.6), ("dynamic", 0.8)):
        for _ in range(int(rng.poisson(share))):
            z, deep = float(rng.uniform(8, 45)), float(rng.uniform(*side.pavement))
            half = (float(rng.uniform(0.2, 0.45)), float(rng.uniform(0.2, 0.5)))
            pose = Pose(side.sign * deep, z, float(rng.uniform(-0.4, 0.4)))
            height = float(rng.uniform(0.7, 1.5))
            shade_below(view, (pose.x, z), half, height)
            items.append((z, partial(furniture.paint_box, view, pose, half, height, name)))
    return items


def _place_people(view: View, street: Street, side: Side) -> list[Item]:
    rng = view.rng
    items: list[Item] = []
    for _ in range(int(rng.poisson(3.2 * street.crowd))):
        x = side.sign * rng.uniform(side.pavement[0] + 0.3, side.pavement[1] - 0.2)
        z = float(rng.triangular(6, 13, 55))
        if street.zebra is not None and rng.random() < 0.4:
            x, z = rng.uniform(-street.left.kerb, street.right.kerb), street.zebra + 1.5
        height = float(np.clip(rng.normal(1.72, 0.09), 1.1, 1.95))
        pose = Pose(float(x), z, float(rng.uniform(0, 2 * np.pi)))
        shade_below(view, (pose.x, z), (0.22, 0.22), height)
        limbs = people.walker(rng, height)
        identity = view.canvas.new_instance("person")
        items.append((z, partial(people.paint_limbs, view, limbs, pose, identity)))
    for _ in range(int(rng.poisson(0.9))):
        z = float(rng.uniform(6.5, 35))
        x = side.sign * (side.kerb + rng.uniform(0.4, 0.9))
        pose = Pose(x, z, float(rng.choice((0, np.pi / 2)) + rng.normal(0, 0.25)))
        items.append(_vehicle(view, pose, "bicycle" if rng.random() < 0.9 else "motorcycle"))
    return items
