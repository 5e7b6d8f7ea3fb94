"""Place traffic, people, trees, fences and furniture, each with its shadow."""

from functools import partial
from itertools import pairwise

import numpy as np

from pipeline.synthetic import furniture, people, plants
from pipeline.synthetic.shadows import cast_object_shadow, cast_tree_shadow
from pipeline.synthetic.solids import Pose
from pipeline.synthetic.street import Side, Street
from pipeline.synthetic.traffic import Drawable, Traffic
from pipeline.synthetic.view import View


def place_all(view: View, street: Street) -> list[Drawable]:
    """Place everything that stands on the ground, and cast its shadow on it."""
    traffic = Traffic(view)
    items = traffic.place_driving(street)
    for side in street.sides:
        items += _place_boundary(view, street, side)
        items += traffic.place_parked(street, side)
        items += _place_trees(view, street, side)
        items += _place_furniture(view, street, side)
        items += _place_people(view, street, side)
        items += traffic.place_leaning_bikes(side)
    items += traffic.place_cyclists(street)
    if view.rng.random() < 0.05:
        z = float(view.rng.uniform(35, 80))
        items.append((z, partial(furniture.paint_bridge, view, z)))
    if view.rng.random() < 0.005:
        z = float(view.rng.uniform(40, 90))
        items.append((z, partial(furniture.paint_tunnel, view, z)))
    return items


def _place_boundary(view: View, street: Street, side: Side) -> list[Drawable]:
    """Hedges, walls and fences where the pavement ends, in pieces so that they sort by depth."""
    rng = view.rng
    items: list[Drawable] = []
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
            kind = "guard rail" if rng.random() < 0.012 else "fence"
            paint = partial(furniture.paint_fence, view, x, span, height, kind)
        items.append((float(stop), paint))
    return items


def _place_trees(view: View, street: Street, side: Side) -> list[Drawable]:
    rng = view.rng
    items: list[Drawable] = []
    rows = []
    leaves = street.tree_kind
    if side.kind == "avenue" or rng.random() < 0.25:
        rows.append((side.curb + 0.9, rng.uniform(6, 11), (6.5, 11.0)))
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
                cast_tree_shadow(view, at, size)
                items.append((place, partial(plants.paint_tree, view, at, size, leaves)))
            place += float(pitch * rng.uniform(0.7, 1.4))
    return items


def _place_furniture(view: View, street: Street, side: Side) -> list[Drawable]:
    rng = view.rng
    items: list[Drawable] = []
    x = side.sign * (side.curb + 0.55)
    for place in np.arange(rng.uniform(9, 30), 110, rng.uniform(22, 32)):
        z = float(place)
        items.append((z, partial(furniture.paint_lamp, view, x, z)))
    for _ in range(int(rng.poisson(1.5))):
        z = float(rng.uniform(8, 50))
        items.append((z, partial(furniture.paint_sign, view, x, z)))
    if rng.random() < (0.3 if street.zebra is None else 0.85):
        z = float(rng.uniform(9, 40)) if street.zebra is None else street.zebra - 0.5
        items.append((z, partial(furniture.paint_traffic_light, view, x, z)))
    if rng.random() < 0.008:
        z = float(rng.uniform(9, 25))
        for aside in (0.0, 0.18, 0.4):
            at = x + side.sign * aside
            group = partial(furniture.paint_pole, view, at, z, 2.4, 0.05, name="polegroup")
            items.append((z, group))
    if rng.random() < 0.2:
        for z in np.arange(rng.uniform(7, 14), rng.uniform(20, 40), 1.8):
            post = partial(furniture.paint_pole, view, x, float(z), 0.95, 0.06)
            items.append((float(z), post))
    for name, share in (("static", 4.3), ("dynamic", 0.85), ("unlabeled", 0.04)):
        for _ in range(int(rng.poisson(share))):
            z, deep = float(rng.uniform(8, 45)), float(rng.uniform(*side.pavement))
            half = (float(rng.uniform(0.2, 0.45)), float(rng.uniform(0.2, 0.5)))
            pose = Pose(side.sign * deep, z, float(rng.uniform(-0.4, 0.4)))
            height = float(rng.uniform(0.7, 1.5))
            cast_object_shadow(view, (pose.x, z), half, height)
            items.append((z, partial(furniture.paint_box, view, pose, half, height, name)))
    return items


def _place_people(view: View, street: Street, side: Side) -> list[Drawable]:
    rng = view.rng
    items: list[Drawable] = []
    for _ in range(int(rng.poisson(3.2 * street.pedestrian_density))):
        x = side.sign * rng.uniform(side.pavement[0] + 0.3, side.pavement[1] - 0.2)
        z = float(rng.triangular(6, 13, 55))
        if street.zebra is not None and rng.random() < 0.4:
            x, z = rng.uniform(-street.left.curb, street.right.curb), street.zebra + 1.5
        height = float(np.clip(rng.normal(1.72, 0.09), 1.1, 1.95))
        pose = Pose(float(x), z, float(rng.uniform(0, 2 * np.pi)))
        cast_object_shadow(view, (pose.x, z), (0.22, 0.22), height)
        limbs = people.build_walker(rng, height)
        identity = view.canvas.new_instance("person", z)
        items.append((z, partial(people.paint_limbs, view, limbs, pose, identity)))
    return items
