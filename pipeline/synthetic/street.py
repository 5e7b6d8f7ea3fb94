"""Plan a street: the widths of road, verge and sidewalk, and the objects along each side."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Strip:
    """A band of ground along the street, `inner` to `outer` meters from the camera's axis."""

    material: str
    inner: float
    outer: float


@dataclass(frozen=True)
class Side:
    """One side of the street; distances are meters from the camera's axis and positive.

    `sign` is -1 on the left, 1 on the right. Buildings stand at `facade`; `kind` says what lies
    before them. `crossings` are the stretches of z where side streets open.
    """

    sign: int
    curb: float
    strips: tuple[Strip, ...]
    pavement: tuple[float, float]
    facade: float
    kind: str
    crossings: tuple[tuple[float, float], ...]
    stories: tuple[int, int]

    @property
    def crossing(self) -> tuple[float, float] | None:
        """The nearest side street, or None."""
        return self.crossings[0] if self.crossings else None


@dataclass(frozen=True)
class Street:
    """The whole plan: two sides, the lines painted on the road and where the view ends.

    `divider` is the x of the line between the directions, `lanes` those between lanes of one
    direction, `rails` the x of a tram track's middle or None and `ballast` whether cars must keep
    off it, `zebras` the z of the zebra crossings, `end` the z of the far end, `parked_share` the
    share of the curb with parked cars, `pedestrian_density` the density of pedestrians and
    `tree_kind` the season and kind of most trees.
    """

    left: Side
    right: Side
    divider: float
    lanes: tuple[float, ...]
    rails: float | None
    ballast: bool
    zebras: tuple[float, ...]
    end: float
    parked_share: float
    pedestrian_density: float
    tree_kind: int

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left, right."""
        return self.left, self.right

    @property
    def zebra(self) -> float | None:
        """The z of the nearest zebra crossing, or None."""
        return self.zebras[0] if self.zebras else None


KINDS = ("houses", "avenue", "villas", "wall", "park", "railing")
_KIND_SHARE = (0.35, 0.17, 0.14, 0.11, 0.10, 0.13)


def draw_street(rng: np.random.Generator) -> Street:
    """Plan a street: narrow or wide, built up or green."""
    wide = rng.random() < 0.3
    lane = rng.uniform(3.0, 3.5)
    divider = -lane / 2 - rng.uniform(0.0, 0.4)
    right = divider + lane * (2 if wide and rng.random() < 0.5 else 1) + rng.uniform(0.2, 2.2)
    left = -divider + lane * (2 if wide else 1) + rng.uniform(0.2, 2.6)
    lanes = tuple(x for x in (divider - lane, divider + lane) if -left + 2 < x < right - 2)
    rails = divider - lane / 2 if rng.random() < 0.17 else None
    end = float(rng.choice((55.0, 80.0, 120.0, 240.0)) * rng.uniform(0.9, 1.2))
    built = rng.uniform(0.75, 1.25)
    return Street(
        left=_draw_side(rng, -1, max(left, 3.2), built),
        right=_draw_side(rng, 1, max(right, 2.4), built),
        divider=divider,
        lanes=lanes,
        rails=rails,
        ballast=bool(rng.random() < 0.22),
        zebras=(float(rng.uniform(11, 42)),) if rng.random() < 0.35 else (),
        end=end,
        parked_share=float(rng.beta(1.0, 1.9)),
        pedestrian_density=float(rng.gamma(1.6, 1.0)),
        tree_kind=int(rng.choice(6, p=(0.22, 0.22, 0.2, 0.2, 0.09, 0.07))),
    )


def _draw_side(rng: np.random.Generator, sign: int, curb: float, built: float) -> Side:
    kind = str(rng.choice(KINDS, p=_KIND_SHARE))
    strips = []
    place = curb

    def add(material: str, width: float) -> None:
        nonlocal place
        strips.append(Strip(material, place, place + width))
        place += width

    if rng.random() < 0.14:
        add("parking", rng.uniform(2.0, 2.8))
    add("curb", 0.16)
    green = {"avenue": 0.55, "park": 0.55}.get(kind, 0.18)
    if rng.random() < green:
        add("grass", rng.uniform(0.8, 2.4))
    inner = place
    stones = ("slabs", "bricks", "paving", "plaza")
    add(str(rng.choice(stones, p=(0.28, 0.28, 0.28, 0.16))), rng.uniform(3.8, 9.4))
    outer = place
    if kind in ("villas", "park", "railing"):
        add("grass", rng.uniform(3.0, 9.0))
    elif kind == "wall":
        add("soil", rng.uniform(0.3, 0.8))
    elif rng.random() < 0.55:
        add("plaza", rng.uniform(3.0, 9.0))
    facade = place
    add("plaza" if kind == "houses" else "grass", 400.0)
    crossings: tuple[tuple[float, float], ...] = ()
    if rng.random() < 0.35:
        start = float(rng.uniform(12, 60))
        crossings = ((start, start + float(rng.uniform(7, 13))),)
    low = int(rng.integers(3, 6))
    stories = (1, 3) if kind == "villas" else (low, low + 1 + round(2 * built))
    return Side(sign, curb, tuple(strips), (inner, outer), facade, kind, crossings, stories)
