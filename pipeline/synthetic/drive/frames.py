"""Draw a drive: frames of one street seen by a camera that moves along it, with their labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.buildings import Plot, paint_houses
from pipeline.synthetic.camera import Camera, FloatArray, draw_camera
from pipeline.synthetic.canvas import Canvas
from pipeline.synthetic.drive.blocks import BLOCK, StreetBlock
from pipeline.synthetic.drive.objects import Moment, Thing
from pipeline.synthetic.drive.plan import BlockPlanner, draw_plan
from pipeline.synthetic.drive.streams import SPEED, plan_streams
from pipeline.synthetic.finish import label_borders, measure_brightness, paint_bonnet
from pipeline.synthetic.ground import mirror_in_ground, paint_ground, shade_ground
from pipeline.synthetic.light import draw_light
from pipeline.synthetic.outline import pixel_span
from pipeline.synthetic.scene import SyntheticFrame, choose_scale, develop
from pipeline.synthetic.shadows import cast_building_shadows
from pipeline.synthetic.sky import paint_backdrop, paint_sky
from pipeline.synthetic.street import Street
from pipeline.synthetic.texture import make_texture
from pipeline.synthetic.view import View

FRAME_RATE = 17
"""Frames per second, as of the official demo video."""

_BEHIND, _SIGHT = 45.0, 420.0  # Meters; behind the camera things still cast shadows into view.
_SIGHT_OF_HOUSES = 300.0
_CLEAR_SIGHT_OF_HOUSES, _WIDTH_OF_HOUSES = 220.0, 45.0
_ADJOINING = 0.1  # Meters between two houses.
_FADE = 0.15  # Of its sight; over this distance a thing appears.
_MIN_DISTANCE = 2.5  # Meters; what is nearer than this lies outside of the picture.
_SHARE_OF_STREET = 0.9  # Trees and vehicles make a street about this much darker.
_NOISE = 0.006  # Standard deviation of the sensor's noise.
_DRIVE = 17  # Keeps the randomness of drives apart from that of single frames.
_MAX_BLOCKS_KEPT = 400
_BLOCKS_WITH_VISIBLE_WEAR = 3
_STANDING = -1


class Drive:
    """One street and all that moves along it, for any number of frames.

    A frame depends on the seed, its number and its size, and on nothing else.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        rng = self._rng(0)
        self._plan = draw_plan(rng)
        self._streams = plan_streams(self._plan)
        self._light = draw_light(rng)
        self._texture = replace(make_texture(rng), fades=True)
        self._sway = rng.uniform(-1, 1, (2, 64))
        self._blocks: dict[tuple[int, int], StreetBlock] = {}

    def draw_frame(self, number: int, size: tuple[int, int]) -> SyntheticFrame:
        """Draw the frame with a number, of `size` rows and columns."""
        scale = choose_scale(size)
        view = self._open_view(number, (size[0] * scale, size[1] * scale))
        brightness = self._paint(view, number / FRAME_RATE)
        return develop(view, scale, noise=_NOISE, brightness=brightness)

    def camera_at(self, number: int, size: tuple[int, int]) -> Camera:
        """The camera of a frame of `size` rows and columns; it sways a little, as cars do."""
        rows, columns = size
        time = number / FRAME_RATE
        pitch, heading = (
            _interpolate(values, time / period)
            for values, period in zip(self._sway, (0.9, 4.5), strict=True)
        )
        camera = draw_camera(self._rng(1), rows, columns)
        return replace(
            camera,
            horizon=rows * (0.42 + 0.003 * pitch),
            center=columns / 2 + rows * 0.04 * heading,
            traveled=SPEED * time,
        )

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, _DRIVE, *key])

    def _open_view(self, number: int, size: tuple[int, int]) -> View:
        return View(
            canvas=Canvas(*size),
            camera=self.camera_at(number, size),
            light=self._light,
            texture=self._texture,
            rng=self._rng(2, number),
            shade=np.zeros(size, np.float32),
            moving=True,
        )

    def _paint(self, view: View, time: float) -> float:
        """Paint the whole frame; return the brightness that the camera's exposure adapts to."""
        traveled = view.camera.traveled
        blocks = [
            self._block(_STANDING, n) for n in _block_numbers(traveled - _BEHIND, traveled + _SIGHT)
        ]
        things = [(thing, Moment(z, time)) for thing, z in self._things(blocks, traveled, time)]
        street = _street_at(self._plan.street, blocks, traveled)
        rows = [_houses_at(blocks, number, traveled) for number in (0, 1)]
        paint_sky(self._fix(view, 0))
        paint_backdrop(self._fix(view, 1))
        self._paint_ground(view, street, blocks)
        self._cast_shadows(view, rows, things)
        behind = view.canvas.color.copy(), view.canvas.ids.copy()
        for side, houses in zip(street.sides, rows, strict=True):
            paint_houses(view, side, houses)
        _fade_far_houses(view, *behind)
        mirror_in_ground(view)
        # Measured before what passes is painted: a white truck must not darken the whole picture.
        brightness = _SHARE_OF_STREET * measure_brightness(view.canvas.color)
        self._paint_things(view, things)
        paint_bonnet(self._fix(view, 3))
        label_borders(self._fix(view, 4))
        return brightness

    def _fix(self, view: View, key: int) -> View:
        """Give a view randomness that is the same in every frame."""
        return replace(view, rng=self._rng(3, key))

    def _paint_ground(self, view: View, street: Street, blocks: list[StreetBlock]) -> None:
        shift = np.array([0, view.camera.traveled])
        wear = [
            (outline - shift, factor)
            for block in blocks[:_BLOCKS_WITH_VISIBLE_WEAR]
            for outline, factor in block.wear
        ]
        paint_ground(self._fix(view, 2), street, wear)

    def _cast_shadows(
        self, view: View, rows: list[list[Plot]], things: list[tuple[Thing, Moment]]
    ) -> None:
        # Before the houses are painted, so that only the ground is darkened.
        for side, houses in zip(self._plan.street.sides, rows, strict=True):
            cast_building_shadows(view, side, _shadow_casters(view, houses))
        for thing, moment in things:
            if thing.shade is not None:
                thing.shade(view, moment)
        shade_ground(view)

    def _paint_things(self, view: View, things: list[tuple[Thing, Moment]]) -> None:
        in_sight = [
            (thing, moment)
            for thing, moment in things
            if moment.z + thing.reach > _MIN_DISTANCE and moment.z < thing.sight
        ]
        for thing, moment in sorted(in_sight, key=lambda item: (item[0].layer, -item[1].z)):
            share = min(1.0, (thing.sight - moment.z) / (_FADE * thing.sight))
            with _faded(view, thing, moment.z, share):
                thing.paint(replace(view, rng=self._rng(4, thing.seed)), moment)

    def _things(
        self, blocks: list[StreetBlock], traveled: float, time: float
    ) -> Iterator[tuple[Thing, float]]:
        """All things near the camera, each with its z in meters ahead."""
        for block in blocks:
            for thing in block.things:
                yield thing, thing.z - traveled
        for index, stream in enumerate(self._streams):
            start = traveled - stream.speed * time
            for n in _block_numbers(start - _BEHIND, start + _SIGHT):
                for thing in self._block(index, n).things:
                    yield thing, thing.z - start

    def _block(self, stream: int, number: int) -> StreetBlock:
        """One block of a stream, or of the standing things, planned when it is first needed."""
        key = stream, number
        if key not in self._blocks:
            if len(self._blocks) > _MAX_BLOCKS_KEPT:
                self._blocks.clear()
            rng = self._rng(5, stream + 1, number + (1 << 30))
            self._blocks[key] = (
                BlockPlanner(rng, self._plan, number).fill()
                if stream == _STANDING
                else self._streams[stream].fill(rng, number)
            )
        return self._blocks[key]


@lru_cache(maxsize=4)
def open_drive(seed: int) -> Drive:
    """Return the drive of a seed; the last few are kept with the blocks they have planned."""
    return Drive(seed)


def _street_at(street: Street, blocks: list[StreetBlock], traveled: float) -> Street:
    """Return the street with the side streets and zebra crossings of some blocks."""
    sides = []
    for number, side in enumerate(street.sides):
        ends = [crossing for block in blocks for crossing in block.crossings[number]]
        crossings = tuple((start - traveled, stop - traveled) for start, stop in ends)
        sides.append(replace(side, crossings=crossings))
    zebras = tuple(z - traveled for block in blocks for z in block.zebras)
    return replace(street, left=sides[0], right=sides[1], zebras=zebras)


def _houses_at(blocks: list[StreetBlock], side: int, traveled: float) -> list[Plot]:
    """Return the houses in sight on one side, from near to far."""
    return [
        (start - traveled, min(stop - traveled, _SIGHT_OF_HOUSES), facade)
        for block in blocks
        for start, stop, facade in block.houses[side]
        if start - traveled < _SIGHT_OF_HOUSES
    ]


def _shadow_casters(view: View, houses: list[Plot]) -> FloatArray:
    """(n, 3): z from, z to and height of houses; adjoining ones leave no gap between shadows.

    The shadow of a taller house is displaced farther along the street.
    """
    displacement = 0.5 * abs(float(view.light.sun[2]) / float(view.light.sun[1]))
    ends = [[start, stop, facade.height] for start, stop, facade in houses]
    for near, far in pairwise(ends):
        if far[0] - near[1] < _ADJOINING:
            near[1] += displacement * abs(far[2] - near[2])
    return np.array(ends, np.float32).reshape(-1, 3)


@contextmanager
def _faded(view: View, thing: Thing, z: float, share: float) -> Iterator[None]:
    """Let a thing that is painted inside appear by a share of its color; its label from a half."""
    if share >= 1:
        yield
        return
    camera, canvas = view.camera, view.canvas
    ends = z - thing.reach, z + thing.reach
    columns = [camera.column_of(x, end) for x in thing.sides for end in ends]
    rows = [camera.row_of(y, end) for y in (0.0, thing.height) for end in ends]
    box = (slice(*pixel_span((min(rows), max(rows)), camera.rows)),
           slice(*pixel_span((min(columns), max(columns)), camera.columns)))  # fmt: skip
    color, ids, depth = (
        canvas.color[:, *box].copy(),
        canvas.ids[box].copy(),
        canvas.depth[box].copy(),
    )
    yield
    painted = canvas.color[:, *box]
    painted += (color - painted) * np.float32(1 - share)
    if share < 0.5:
        canvas.ids[box], canvas.depth[box] = ids, depth


def _fade_far_houses(view: View, color: FloatArray, ids: NDArray[np.uint16]) -> None:
    """Blend houses at the end of sight with what lies behind: (3, h, w) and (h, w)."""
    camera, canvas = view.camera, view.canvas
    half = _WIDTH_OF_HOUSES * camera.pixels_per_meter(_CLEAR_SIGHT_OF_HOUSES)
    left, right = pixel_span((camera.center - half, camera.center + half), camera.columns)
    box = np.s_[: int(camera.horizon) + 8, left:right]
    span = _SIGHT_OF_HOUSES - _CLEAR_SIGHT_OF_HOUSES
    share = (canvas.depth[box] - np.float32(_CLEAR_SIGHT_OF_HOUSES)) * np.float32(1 / span)
    np.clip(share, 0, 1, out=share)
    canvas.color[:, *box] += (color[:, *box] - canvas.color[:, *box]) * share
    np.copyto(canvas.ids[box], ids[box], where=share > 0.5)


def _block_numbers(start: float, stop: float) -> range:
    return range(int(start // BLOCK), int(stop // BLOCK) + 1)


def _interpolate(values: np.ndarray, place: float) -> float:
    """A smooth curve through values at 0, 1, 2, ..., which repeat."""
    low = int(place // 1)
    part = place - low
    before, after = float(values[low % len(values)]), float(values[(low + 1) % len(values)])
    return before + (after - before) * part * part * (3 - 2 * part)
