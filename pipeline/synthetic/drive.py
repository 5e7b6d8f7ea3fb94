"""Draw a drive: frames of one street seen by a camera that moves along it, with their labels."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from pipeline.synthetic.buildings import paint_houses
from pipeline.synthetic.camera import Camera, draw_camera
from pipeline.synthetic.canvas import Canvas
from pipeline.synthetic.drive_objects import Moment, Thing
from pipeline.synthetic.drive_plan import (
    BLOCK,
    SPEED,
    Block,
    BlockPlanner,
    draw_plan,
    plan_streams,
)
from pipeline.synthetic.finish import expose, label_borders, paint_bonnet
from pipeline.synthetic.ground import mirror_in_ground, paint_ground, shade_ground
from pipeline.synthetic.light import draw_light
from pipeline.synthetic.scene import SyntheticFrame, choose_scale, develop
from pipeline.synthetic.shadows import cast_building_shadows
from pipeline.synthetic.sky import paint_backdrop, paint_sky
from pipeline.synthetic.street import Street
from pipeline.synthetic.texture import make_texture
from pipeline.synthetic.view import View

FRAME_RATE = 17
"""Frames per second, as of the official demo video."""

_BEHIND, _SIGHT = 45.0, 420.0  # Meters; behind the camera things still cast shadows into view.
_SIGHT_OF_HOUSES = 360.0
_MIN_DISTANCE = 2.5  # Meters; what is nearer than this lies outside of the picture.
_NOISE = 0.006  # Standard deviation of the sensor's noise.
_DRIVE = 1_7  # Keeps the randomness of drives apart from that of single frames.
_MAX_BLOCKS_KEPT = 400
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
        self._blocks: dict[tuple[int, int], Block] = {}

    def draw_frame(self, number: int, size: tuple[int, int]) -> SyntheticFrame:
        """Draw the frame with a number, of `size` rows and columns."""
        scale = choose_scale(size)
        view = self._open_view(number, (size[0] * scale, size[1] * scale))
        self._paint(view, number / FRAME_RATE)
        return develop(view, scale, noise=_NOISE)

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

    def _paint(self, view: View, time: float) -> None:
        traveled = view.camera.traveled
        blocks = [
            self._block(_STANDING, n) for n in _block_numbers(traveled - _BEHIND, traveled + _SIGHT)
        ]

        def fixed(key: int) -> View:
            """The view with randomness that is the same in every frame."""
            return replace(view, rng=self._rng(3, key))

        street = self._street_at(blocks, traveled)
        wear = [(outline - np.array([0, traveled]), factor)
                for block in blocks[:2] for outline, factor in block.wear]  # fmt: skip
        paint_sky(fixed(0))
        paint_backdrop(fixed(1))
        paint_ground(fixed(2), street, wear)
        for number, side in enumerate(street.sides):
            plots = [
                (start - traveled, stop - traveled, facade)
                for block in blocks for start, stop, facade in block.houses[number]
                if start - traveled < _SIGHT_OF_HOUSES
            ]  # fmt: skip
            paint_houses(view, side, plots)
            heights = [(start, stop, facade.height) for start, stop, facade in plots]
            cast_building_shadows(view, side, np.array(heights, np.float32).reshape(-1, 3))
        self._paint_things(view, time, blocks)
        paint_bonnet(fixed(3))
        label_borders(fixed(4))

    def _paint_things(self, view: View, time: float, blocks: list[Block]) -> None:
        things = [
            (thing, Moment(z, time)) for thing, z in self._things(blocks, view.camera.traveled, time)
        ]
        for thing, moment in things:
            if thing.shade is not None:
                thing.shade(view, moment)
        shade_ground(view)
        mirror_in_ground(view)
        in_sight = [
            (thing, moment) for thing, moment in things
            if moment.z + thing.reach > _MIN_DISTANCE and moment.z < thing.sight
        ]  # fmt: skip
        for thing, moment in sorted(in_sight, key=lambda item: (item[0].layer, -item[1].z)):
            thing.paint(replace(view, rng=self._rng(4, thing.seed)), moment)

    def _things(
        self, blocks: list[Block], traveled: float, time: float
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

    def _block(self, stream: int, number: int) -> Block:
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

    def _street_at(self, blocks: list[Block], traveled: float) -> Street:
        """The street with the side streets and zebra crossings of some blocks."""
        street = self._plan.street
        sides = [
            replace(side, crossings=tuple(
                (start - traveled, stop - traveled)
                for block in blocks for start, stop in block.crossings[number]
            ))
            for number, side in enumerate(street.sides)
        ]  # fmt: skip
        zebras = tuple(z - traveled for block in blocks for z in block.zebras)
        return replace(street, left=sides[0], right=sides[1], zebras=zebras)


@lru_cache(maxsize=4)
def open_drive(seed: int) -> Drive:
    """Return the drive of a seed; the last few are kept with the blocks they have planned."""
    return Drive(seed)


def _block_numbers(start: float, stop: float) -> range:
    return range(int(start // BLOCK), int(stop // BLOCK) + 1)


def _interpolate(values: np.ndarray, place: float) -> float:
    """A smooth curve through values at 0, 1, 2, ..., which repeat."""
    low = int(place // 1)
    part = place - low
    before, after = float(values[low % len(values)]), float(values[(low + 1) % len(values)])
    return before + (after - before) * part * part * (3 - 2 * part)
