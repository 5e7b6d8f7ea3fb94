"""Vegetation: trees with crowns of leaves, hedges and bushes, and the edge of a wood."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.canvas import LABEL_ID
from pipeline.synthetic.planes import Region, paint_alongside
from pipeline.synthetic.view import View, channels, pick, rgb

_LEAVES = np.array(
    [(0.26, 0.36, 0.14), (0.20, 0.31, 0.15), (0.33, 0.40, 0.16), (0.17, 0.26, 0.14),
     (0.38, 0.40, 0.15), (0.44, 0.36, 0.14)],
    np.float32,
)  # fmt: skip
_BARK = rgb(0.27, 0.23, 0.19)


def paint_tree(view: View, place: tuple[float, float], size: float, kind: int) -> None:
    """Paint a tree `size` metres tall whose trunk stands at place (x, z), most often of a kind."""
    x, z = place
    camera, rng = view.camera, view.rng
    leaves = pick(rng, _LEAVES[kind : kind + 1] if rng.random() < 0.75 else _LEAVES[:4], 0.03)
    scale = camera.pixels_per_metre(z)
    thick = max(0.022 * size * scale, 0.7)
    lean = rng.uniform(-0.25, 0.25)
    ends = camera.project(np.array([(x, 0, z), (x + lean, size * 0.62, z)], np.float32))
    bark = _BARK * view.light.on(rgb(-0.6, 0, -0.8))
    view.canvas.capsule(ends, (thick, thick * 0.6), bark, LABEL_ID["vegetation"], z)
    if thick > 3:
        lit = ends + np.array([0, 0.4 * thick * np.sign(view.light.sun[0])])
        flank = (thick * 0.45, thick * 0.25)
        view.canvas.capsule(lit, flank, bark * 1.25, LABEL_ID["vegetation"], z)
    spread = size * rng.uniform(0.25, 0.36)
    middle = np.array([ends[1, 0] - 0.06 * size * scale, ends[1, 1]])
    radii = np.array([size * 0.31 * scale, spread * scale])
    for tone, shift, share in _clumps(rng, float(radii[1])):
        paint_clump(view, middle + shift * radii, radii * share, leaves * tone, z)


def _clumps(rng: np.random.Generator, radius: float) -> list[tuple[float, FloatArray, float]]:
    """Tone, shift and size of a crown's parts, back to front; shares of the crown's radii."""
    if radius < 16:
        return [(1.0, np.zeros(2), 1.0)]
    number = 3 if radius < 40 else 5 if radius < 90 else 7
    clumps = [(0.74, np.array([0.05, 0.0]), 0.86)]
    for n in range(number):
        angle = 2 * np.pi * (n + rng.uniform(-0.3, 0.3)) / number
        far = rng.uniform(0.38, 0.6)
        shift = np.array([far * np.sin(angle), far * np.cos(angle)])
        clumps.append((0.92 - 0.22 * shift[0], shift, float(rng.uniform(0.38, 0.56))))
    clumps.append((1.05, np.array([-0.12, 0.10]) * rng.uniform(0.4, 1.6), 0.5))
    return clumps


def paint_clump(
    view: View,
    middle: FloatArray,
    radii: FloatArray,
    leaves: FloatArray,
    z: float,
) -> None:
    """Paint a ball of leaves: a ragged outline, lit from above, with gaps that fall into shade.

    Args:
        view: the frame.
        middle: (2,) row and column of its middle, pixels.
        radii: (2,) half its height and width, pixels.
        leaves: (3,) RGB.
        z: how far away it stands, metres.
    """
    height, width = view.canvas.shape
    radii = np.maximum(radii, 0.7)
    tall, broad = radii * 1.3
    first, last = (min(max(int(middle[0] + d), 0), height) for d in (-tall, tall))
    left, right = (min(max(int(middle[1] + d), 0), width) for d in (-broad, broad))
    if last <= first or right <= left:
        return
    row = (np.arange(first, last, dtype=np.float32)[:, None] + 0.5 - float(middle[0])) / float(
        radii[0]
    )
    column = (np.arange(left, right, dtype=np.float32)[None] + 0.5 - float(middle[1])) / float(
        radii[1]
    )
    seed = view.rng.uniform(300, 900, 2)
    texture = view.texture
    # About a cell of noise for every pixel or two: large crowns show leaves, not squares.
    fineness = min(max(float(radii[1]) / 2, 12.0), 70.0)
    lumps = texture.patches(row * fineness + seed[0], column * fineness + seed[1])
    # Leaves are as large as they look: a share of a metre, not of the crown.
    per_metre = view.camera.pixels_per_metre(z)
    leaf = max(7.0 / per_metre, 0.45)
    grain = texture.grain(
        row * float(radii[0] * leaf) + seed[1], column * float(radii[1] * leaf) + seed[0]
    )
    solid = row**2 + column**2 + 0.46 * lumps + 0.18 * grain < 1
    toward = -row * 0.34 + column * float(view.light.sun[0]) * 0.14
    tone = 0.90 + toward + 0.26 * lumps + 0.20 * grain
    lit = leaves * (view.light.ambient + 0.62 * view.light.direct)
    color = channels(lit) * np.clip(tone, 0.22, 1.5)
    identity = LABEL_ID["vegetation"]
    view.canvas.patch(slice(first, last), slice(left, right), color, identity, z, solid)


def paint_hedge(view: View, x: float, span: tuple[float, float], height: float) -> None:
    """Paint a hedge (or, where it is tall, the edge of a wood) that runs along the street."""
    paint = partial(_paint_leaves, pick(view.rng, _LEAVES, 0.03), height)
    paint_alongside(view, x, span, height * 1.15, LABEL_ID["vegetation"], paint)


def _paint_leaves(
    leaves: FloatArray, height: float, region: Region
) -> tuple[FloatArray, NDArray[np.bool_]]:
    texture = region.view.texture
    along, up = region.along + 1000, region.up
    lumps = texture.patches(up * 11, along * 8)
    near = np.clip(region.density / 12, 0.25, 1)
    grain = texture.grain(up * 26, along * 26) * near
    level = up / height
    tone = np.clip(0.62 + 0.34 * level + 0.24 * lumps + 0.24 * grain, 0.2, 1.4)
    light = region.view.light
    color = channels(leaves * (light.ambient + 0.5 * light.direct)) * tone
    return color, level + 0.16 * lumps < 1
