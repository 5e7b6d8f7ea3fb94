"""Vegetation: trees with crowns of leaves, hedges and bushes, and the edge of a wood."""

from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.canvas import LABEL_ID
from pipeline.synthetic.outline import pixel_span
from pipeline.synthetic.planes import Region, paint_alongside
from pipeline.synthetic.texture import make_texture
from pipeline.synthetic.view import View, channels, pick_color, rgb

_LEAVES = np.array(
    [(0.26, 0.36, 0.14), (0.20, 0.31, 0.15), (0.33, 0.40, 0.16), (0.17, 0.26, 0.14),
     (0.38, 0.40, 0.15), (0.44, 0.36, 0.14)],
    np.float32,
)  # fmt: skip
_MAX_RADIUS_FACTOR = 1.36  # Times a ball's radius; its raggedness ends there.
_SMALL_BALL_CELLS, _LARGE_BALL_CELLS = (
    72,
    224,
)  # Cells a side of a drawn ball of leaves, for small crowns and large ones.
_SMALL_BALL_RADIUS = 30.0  # Pixels of radius.
_NUM_BALLS = 8
_BALL_CHOICES = 2 * _NUM_BALLS  # Each ball as it is and mirrored.
_DETAILED_CROWN = 100.0  # Pixels of radius from which on a crown has all its parts.
_MAX_REDUCTION = 3
_BARK = rgb(0.27, 0.23, 0.19)


def paint_tree(view: View, place: tuple[float, float], size: float, kind: int) -> None:
    """Paint a tree `size` meters tall whose trunk stands at place (x, z), most often of a kind."""
    x, z = place
    camera, rng = view.camera, view.rng
    leaves = pick_color(rng, _LEAVES[kind : kind + 1] if rng.random() < 0.75 else _LEAVES[:4], 0.03)
    scale = camera.pixels_per_meter(z)
    thick = max(0.022 * size * scale, 0.7)
    lean = rng.uniform(-0.25, 0.25)
    ends = camera.project(np.array([(x, 0, z), (x + lean, size * 0.62, z)], np.float32))
    bark = _BARK * view.light.irradiance(rgb(-0.6, 0, -0.8))
    what, lit = (LABEL_ID["vegetation"], z), 0.35 * view.light.side_contrast
    view.canvas.capsule(ends, (thick, thick * 0.6), bark * 1.1, what, lit)
    spread = size * rng.uniform(0.25, 0.36)
    middle = np.array([ends[1, 0] - 0.06 * size * scale, ends[1, 1]])
    radii = np.array([size * 0.31 * scale, spread * scale])
    clumps = _clumps(rng, _DETAILED_CROWN if view.moving else float(radii[1]))
    # A clump outside of the picture draws no ball: in a drive all balls are drawn beforehand.
    balls = rng.integers(_BALL_CHOICES, size=len(clumps)).tolist() if view.moving else None
    for number, (tone, shift, share) in enumerate(clumps):
        ball = balls[number] if balls else None
        paint_clump(view, middle + shift * radii, radii * share, leaves * tone, z, ball=ball)


def _clumps(rng: np.random.Generator, radius: float) -> list[tuple[float, FloatArray, float]]:
    """Tone, shift and size of a crown's parts, back to front; shares of the crown's radii."""
    if radius < 14:
        return [(1.0, np.zeros(2), 1.0)]
    number = 2 if radius < 32 else 4 if radius < 80 else 6
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
    *,
    ball: int | None = None,
) -> None:
    """Paint a ball of leaves: a ragged outline, lit from above, with gaps that fall into shade.

    Args:
        view: the frame.
        middle: (2,) row and column of its middle, pixels.
        radii: (2,) half its height and width, pixels.
        leaves: (3,) RGB.
        z: how far away it stands, meters.
        ball: the ball of leaves, below `_BALL_CHOICES`; None draws one.
    """
    height, width = view.canvas.shape
    tall, broad = (max(float(radius), 0.7) for radius in radii)
    down, across = middle.tolist()
    first, last = pixel_span(
        (down - tall * _MAX_RADIUS_FACTOR, down + tall * _MAX_RADIUS_FACTOR), height
    )
    left, right = pixel_span(
        (across - broad * _MAX_RADIUS_FACTOR, across + broad * _MAX_RADIUS_FACTOR), width
    )
    if last <= first or right <= left:
        return
    row = (np.arange(first, last) + (0.5 - down)) * (1 / tall)
    column = (np.arange(left, right) + (0.5 - across)) * (1 / broad)
    if view.moving:
        balls = _reduced_balls(_choose_reduction(broad))
    else:
        balls = _leaf_balls(_SMALL_BALL_CELLS if broad < _SMALL_BALL_RADIUS else _LARGE_BALL_CELLS)
    number = int(view.rng.integers(2 * len(balls))) if ball is None else ball
    leaf_tones, cells = balls[number // 2], balls.shape[1] / (2 * _MAX_RADIUS_FACTOR)
    turned = column if number % 2 else -column
    tone = leaf_tones.take(
        ((row + _MAX_RADIUS_FACTOR) * cells).astype(np.intp), axis=0, mode="clip"
    ).take(((turned + _MAX_RADIUS_FACTOR) * cells).astype(np.intp), axis=1, mode="clip")
    solid = tone > 0
    tone += (column * (0.34 * view.light.side_contrast * view.light.shadow)).astype(np.float32)
    lit = leaves * (view.light.ambient + np.float32(0.62) * view.light.direct)
    color = channels(lit) * tone
    identity = LABEL_ID["vegetation"]
    view.canvas.patch(slice(first, last), slice(left, right), color, identity, z, solid)


@cache
def _leaf_balls(cells: int) -> FloatArray:
    """(8, cells, cells): how bright each leaf of some balls is, lit from above; 0 between leaves.

    Drawn once and painted in all sizes, since a frame has hundreds.
    """
    texture = make_texture(np.random.default_rng(21))
    place = (np.arange(cells, dtype=np.float32) + np.float32(0.5)) / np.float32(cells / 2) - 1
    place *= np.float32(_MAX_RADIUS_FACTOR)
    row, column = place[:, None], place[None]
    balls = np.zeros((_NUM_BALLS, cells, cells), np.float32)
    for number, ball in enumerate(balls):
        start = 31 * number
        noise = texture.patches(row * 22 + 400 + start, column * 22 + 500 + 3 * start)
        noise = noise + np.float32(0.55) * texture.grain(
            row * np.float32(cells * 0.3) + 400 + start, column * np.float32(cells * 0.3) + 700
        )
        tone = 0.88 + np.float32(0.31) * noise - np.float32(0.34) * row
        inside = row * row + column * column < 1 - np.float32(0.56) * noise
        np.copyto(ball, np.clip(tone, 0.22, 1.6), where=inside)
    return balls


def _choose_reduction(radius: float) -> int:
    """How often large balls are halved for a ball of `radius` pixels: about a cell per pixel."""
    cells, reduction = float(_LARGE_BALL_CELLS), 0
    while cells > 1.5 * 2 * _MAX_RADIUS_FACTOR * radius and reduction < _MAX_REDUCTION:
        cells, reduction = cells / 2, reduction + 1
    return reduction


@cache
def _reduced_balls(reduction: int) -> FloatArray:
    """(8, cells, cells): the large balls, each side halved `reduction` times by averaging."""
    if reduction == 0:
        return _leaf_balls(_LARGE_BALL_CELLS)
    larger = _reduced_balls(reduction - 1)
    parts = np.stack([larger[:, r::2, c::2] for r in (0, 1) for c in (0, 1)])
    number = (parts > 0).sum(axis=0)
    mean = parts.sum(axis=0) / np.maximum(number, 1).astype(np.float32)
    reduced: FloatArray = np.where(number > 1, mean, np.float32(0)).astype(np.float32)
    return reduced


def paint_hedge(view: View, x: float, span: tuple[float, float], height: float) -> None:
    """Paint a hedge (or, where it is tall, the edge of a wood) that runs along the street."""
    paint = partial(_paint_leaves, pick_color(view.rng, _LEAVES, 0.03), height)
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
