"""People on foot and on two wheels: bodies of rounded limbs, bicycles and motorcycles of bars."""

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.solids import Pose
from pipeline.synthetic.view import View, pick_color, rgb

_CLOTHES = np.array(
    [(0.10, 0.10, 0.13), (0.16, 0.20, 0.32), (0.30, 0.30, 0.32), (0.55, 0.12, 0.14),
     (0.72, 0.70, 0.66), (0.22, 0.34, 0.26), (0.42, 0.34, 0.24), (0.30, 0.42, 0.58),
     (0.60, 0.50, 0.26), (0.36, 0.26, 0.36)],
    np.float32,
)  # fmt: skip
_TROUSERS = np.array(
    [(0.10, 0.10, 0.12), (0.14, 0.18, 0.28), (0.24, 0.28, 0.38), (0.34, 0.30, 0.24)], np.float32
)
_SKIN = np.array(
    [(0.84, 0.65, 0.54), (0.74, 0.54, 0.42), (0.52, 0.36, 0.27), (0.33, 0.22, 0.17)], np.float32
)
_HAIR = np.array(
    [(0.10, 0.08, 0.07), (0.25, 0.17, 0.11), (0.50, 0.38, 0.22), (0.55, 0.55, 0.55)], np.float32
)
_MIN_DETAIL_SCALE = 9.0
"""Pixels for a meter; below it hands, feet and forearms are smaller than a pixel."""

_RUBBER, _STEEL = rgb(0.07, 0.07, 0.08), rgb(0.42, 0.43, 0.45)


@dataclass(frozen=True)
class Limb:
    """A rounded bar between two points (x, y, z) of the body's own axes; meters."""

    start: tuple[float, float, float]
    stop: tuple[float, float, float]
    radii: tuple[float, float]
    color: FloatArray


def paint_limbs(view: View, limbs: list[Limb], pose: Pose, identity: int) -> None:
    """Paint bars in the order given, each with a lighter flank on the sun's side."""
    if view.camera.pixels_per_meter(pose.z) < _MIN_DETAIL_SCALE:
        limbs = [limb for limb in limbs if max(limb.radii) >= 0.07]
    ends = np.array([(limb.start, limb.stop) for limb in limbs], np.float32)
    world = pose.to_world(ends.reshape(-1, 3))
    pixels = view.camera.project(world).reshape(-1, 2, 2)
    scale = view.camera.pixels_per_meter(pose.z)
    light = view.light.irradiance(rgb(0, 0.5, -0.86))
    lit = 0.22 * view.light.side_contrast
    for limb, place in zip(limbs, pixels, strict=True):
        thick = (max(limb.radii[0] * scale, 0.55), max(limb.radii[1] * scale, 0.55))
        view.canvas.capsule(place, thick, limb.color * light, (identity, pose.z), lit)


def _head(height: float, ahead: float, colors: tuple[FloatArray, FloatArray]) -> list[Limb]:
    skin, hair = colors
    r = 0.105
    return [
        Limb((0, height - 0.32, ahead), (0, height - 0.2, ahead), (0.05, 0.05), skin),
        Limb((0, height - r, ahead - 0.03), (0, height - r, ahead - 0.03), (r, r), hair),
        Limb((0, height - r - 0.04, ahead + 0.04), (0, height - r - 0.03, ahead + 0.04),
             (0.085, 0.085), skin),
        Limb((0, height - r + 0.035, ahead), (0, height - r + 0.035, ahead), (0.09, 0.09), hair),
    ]  # fmt: skip


def build_walker(
    rng: np.random.Generator, height: float, *, stride: float | None = None
) -> list[Limb]:
    """A person on foot in mid-step (or standing), `height` meters tall.

    `stride` is how far the left foot is ahead of the hips (or, below 0, behind them) in meters;
    None draws it.
    """
    coat, legs = pick_color(rng, _CLOTHES), pick_color(rng, _TROUSERS)
    skin, hair = pick_color(rng, _SKIN, 0.02), pick_color(rng, _HAIR, 0.02)
    k = height / 1.75
    step = rng.uniform(0.0, 0.34) * k if stride is None else stride
    hip, knee, shoulder = 0.88 * k, 0.47 * k, 1.42 * k
    limbs = []
    for side, reach in ((-0.09, step), (0.09, -step)):
        foot = (side, 0.06, reach)
        bend = (side, knee, reach * 0.62 + 0.04)
        limbs += [
            Limb(foot, (side, 0.05, reach + 0.16), (0.05, 0.04), _RUBBER * 1.6),
            Limb(foot, bend, (0.055, 0.07), legs),
            Limb(bend, (side, hip, 0), (0.07, 0.10), legs),
        ]
    for side, reach in ((-0.25, -step), (0.25, step)):
        elbow = (side * 1.12 * k, 1.13 * k, reach * 0.35 - 0.03)
        hand = (side * 1.12 * k, 0.90 * k, reach * 0.9 + 0.06)
        limbs.append(Limb((side * 0.85 * k, shoulder, 0), elbow, (0.065, 0.05), coat * 0.88))
        limbs.append(Limb(elbow, hand, (0.05, 0.042), coat * 0.88))
        limbs.append(Limb(hand, hand, (0.045, 0.045), skin))
    long = rng.random() < 0.3
    limbs.append(Limb((0, hip - (0.22 if long else 0.02), 0), (0, 1.12 * k, 0),
                      (0.19 if long else 0.16, 0.16), coat))  # fmt: skip
    limbs.append(Limb((-0.10 * k, 1.08 * k, 0), (-0.11 * k, 1.36 * k, 0), (0.10, 0.10), coat))
    limbs.append(Limb((0.10 * k, 1.08 * k, 0), (0.11 * k, 1.36 * k, 0), (0.10, 0.10), coat))
    limbs.append(Limb((0, 1.05 * k, 0), (0, 1.36 * k, 0), (0.15, 0.16), coat))
    if rng.random() < 0.3:
        bag = pick_color(rng, _CLOTHES)
        limbs.append(Limb((0, 1.05 * k, -0.16), (0, 1.30 * k, -0.16), (0.15, 0.13), bag))
    return limbs + _head(height, 0.02, (skin, hair))


def build_rider(
    rng: np.random.Generator, seat: float, helmet: bool, *, pedal: float | None = None
) -> list[Limb]:
    """A person who sits `seat` meters high, hands on the bars and feet on the pedals.

    `pedal` is the angle of the left pedal in radians; None draws it.
    """
    coat, legs = pick_color(rng, _CLOTHES), pick_color(rng, _TROUSERS)
    skin, hair = pick_color(rng, _SKIN, 0.02), pick_color(rng, _HAIR, 0.02)
    if helmet:
        hair = pick_color(rng, np.array([(0.85, 0.85, 0.84), (0.1, 0.1, 0.1), (0.6, 0.1, 0.1)]))
    crank = rng.uniform(0, np.pi) if pedal is None else pedal
    hip = (0.0, seat + 0.08, -0.18)
    neck = seat + 0.60
    limbs = []
    for side, turn in ((-0.11, 0.0), (0.11, np.pi)):
        foot = (side, 0.30 + 0.15 * np.cos(crank + turn), 0.06 + 0.16 * np.sin(crank + turn))
        knee = (side * 1.3, (foot[1] + seat) / 2 + 0.16, 0.26)
        limbs.append(Limb((side, hip[1], hip[2]), knee, (0.10, 0.075), legs))
        limbs.append(Limb(knee, foot, (0.07, 0.05), legs))
        limbs.append(Limb(foot, (side, foot[1] - 0.02, foot[2] + 0.14), (0.05, 0.04), _RUBBER * 2))
    limbs.append(Limb(hip, (0, neck - 0.10, 0.06), (0.16, 0.15), coat))
    limbs.append(Limb((-0.12, neck - 0.10, 0.06), (0.12, neck - 0.10, 0.06), (0.10, 0.10), coat))
    for side in (-0.2, 0.2):
        elbow = (side * 1.25, neck - 0.36, 0.22)
        limbs.append(Limb((side, neck - 0.1, 0.06), elbow, (0.06, 0.05), coat * 0.88))
        limbs.append(Limb(elbow, (side * 1.2, seat + 0.1, 0.46), (0.05, 0.04), coat * 0.88))
    return limbs + _head(neck + 0.30, 0.12, (skin, hair))


def paint_wheel(
    view: View, pose: Pose, hub: tuple[float, float], tyre: float, identity: int
) -> None:
    """Paint a spoked wheel, through which one sees; hub is (z, radius) in meters.

    The whole disc belongs to the vehicle, as annotators draw it.
    """
    along, radius = hub
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.stack([np.zeros(20), np.cos(angle), np.sin(angle)], axis=1)
    center = np.array([0, radius, along])
    outer = view.camera.project(pose.to_world((center + radius * ring).astype(np.float32)))
    inner = view.camera.project(pose.to_world((center + (radius - tyre) * ring).astype(np.float32)))
    view.canvas.ring(
        outer, inner, _RUBBER * view.light.irradiance(rgb(0, 0, -1)), (identity, pose.z)
    )


def build_bicycle(rng: np.random.Generator) -> list[Limb]:
    """The frame of a bicycle without its wheels."""
    paint = pick_color(rng, _CLOTHES)
    thin = (0.02, 0.02)
    rear, front = (0.0, 0.34, -0.52), (0.0, 0.34, 0.52)
    crank, seat, head = (0.0, 0.30, -0.05), (0.0, 0.82, -0.20), (0.0, 0.86, 0.36)
    return [
        Limb(rear, crank, thin, paint),
        Limb(rear, seat, thin, paint),
        Limb(crank, seat, thin, paint),
        Limb(crank, head, (0.024, 0.024), paint),
        Limb(seat, head, thin, paint),
        Limb(head, front, thin, paint * 0.8),
        Limb(head, (0, 1.02, 0.36), thin, _STEEL),
        Limb((-0.26, 1.03, 0.32), (0.26, 1.03, 0.32), (0.018, 0.018), _RUBBER * 2),
        Limb((0, 0.90, -0.32), (0, 0.90, -0.10), (0.055, 0.03), _RUBBER * 2),
        Limb((0, 0.70, -0.72), (0, 0.68, -0.45), (0.035, 0.03), _STEEL * 0.6),
    ]


def build_motorcycle(rng: np.random.Generator) -> list[Limb]:
    """The body of a motorcycle without its wheels."""
    paint = pick_color(rng, np.concatenate([_CLOTHES, np.array([(0.75, 0.1, 0.08)], np.float32)]))
    return [
        Limb((0, 0.34, -0.72), (0, 0.42, -0.1), (0.06, 0.09), _STEEL * 0.7),
        Limb((0, 0.42, -0.10), (0, 0.45, 0.22), (0.20, 0.17), _STEEL * 0.55),
        Limb((0, 0.85, 0.48), (0, 0.32, 0.72), (0.045, 0.045), _STEEL),
        Limb((0.16, 0.34, -0.75), (0.16, 0.32, 0.0), (0.06, 0.04), _STEEL * 1.3),
        Limb((0, 0.80, -0.80), (0, 0.78, -0.10), (0.09, 0.13), _RUBBER * 2),
        Limb((0, 0.72, -0.78), (0, 0.68, -0.30), (0.09, 0.12), paint),
        Limb((0, 0.80, 0.02), (0, 0.86, 0.34), (0.16, 0.17), paint),
        Limb((-0.36, 1.02, 0.36), (0.36, 1.02, 0.36), (0.025, 0.025), _RUBBER * 2),
        Limb((0, 0.86, 0.52), (0, 0.94, 0.48), (0.13, 0.14), paint),
        Limb((0, 0.88, 0.62), (0, 0.88, 0.62), (0.085, 0.085), rgb(0.9, 0.9, 0.82)),
        Limb((0, 0.74, -0.88), (0, 0.74, -0.88), (0.05, 0.05), rgb(0.65, 0.06, 0.05)),
    ]


def paint_bicycle(view: View, pose: Pose, identity: int) -> None:
    """Paint a bicycle without its rider."""
    for along in (-0.52, 0.52):
        paint_wheel(view, pose, (along, 0.34), 0.05, identity)
    paint_limbs(view, build_bicycle(view.rng), pose, identity)


def paint_motorcycle(view: View, pose: Pose, identity: int) -> None:
    """Paint a motorcycle without its rider."""
    for along in (-0.68, 0.74):
        tread = [Limb((0, 0.12, along), (0, 0.5, along), (0.075, 0.075), _RUBBER)]
        paint_limbs(view, tread, pose, identity)
        paint_wheel(view, pose, (along, 0.31), 0.13, identity)
    paint_limbs(view, build_motorcycle(view.rng), pose, identity)
