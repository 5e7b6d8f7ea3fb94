"""The picture while it is painted, back to front: colour, who is seen, and how far away it is."""

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.outline import pixels_inside
from segformer.cityscapes import LABELS

LABEL_ID = {label.name: label.label_id for label in LABELS}
"""The official label id of every class name."""

INSTANCE_BASE = 1000
"""An instance's id is its class's label id times this, plus its number in the frame."""

UNREACHED = 1e6
"""Metres; the depth of what nothing has been painted over, which is the sky."""

_SLIM = 1.6  # Pixels; whether the ends of a bar that thin are round, nobody can see.
_ROUND = 6
_ARC = np.linspace(-np.pi / 2, np.pi / 2, _ROUND)
_CAP = np.stack([np.cos(_ARC), np.sin(_ARC)], axis=1)
"""A half circle of points: the end of a capsule, ahead of its last point."""


class Canvas:
    """Three layers of one size that are always painted together.

    Attributes:
        color: (3, h, w) float32 RGB; 0..1 is what the camera can show. Planes, since a number per
            pixel then multiplies all three at full speed.
        ids: (h, w) uint16 instance ids as the official set writes them.
        depth: (h, w) float32, metres.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.color = np.zeros((3, rows, columns), np.float32)
        self.ids = np.zeros((rows, columns), np.uint16)
        self.depth = np.full((rows, columns), UNREACHED, np.float32)
        self._counts: dict[str, int] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.ids.shape
        return rows, columns

    def new_instance(self, name: str) -> int:
        """Hand out the id of the next object of a class that has instances."""
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        return LABEL_ID[name] * INSTANCE_BASE + number

    def polygon(
        self,
        points: FloatArray,
        color: FloatArray,
        identity: int | None,
        depth: float,
        gradient: float = 0.0,
    ) -> None:
        """Fill a convex polygon.

        Args:
            points: (n, 2) row and column in pixels; may lie outside.
            color: (3,) RGB.
            identity: what `ids` shall hold; None paints colour only (a decal, a wire).
            depth: metres.
            gradient: how much brighter the top is than the bottom, as a fraction.
        """
        place = pixels_inside(points, self.shape)
        if place.size == 0:
            return
        value = color[:, None]
        if gradient:
            rows = place // self.ids.shape[1]
            part = (rows - rows[0]) / max(1, int(rows[-1] - rows[0]))
            value = (1 + gradient * (0.5 - part)).astype(np.float32) * value
        self.color.reshape(3, -1)[:, place] = value
        if identity is not None:
            self.ids.reshape(-1)[place] = identity
            self.depth.reshape(-1)[place] = depth

    def capsule(
        self,
        ends: FloatArray,
        radii: tuple[float, float],
        color: FloatArray,
        identity: int | None,
        depth: float,
    ) -> None:
        """Fill a rounded bar from ends[0] to ends[1] ((2, 2) pixels), with a radius at each."""
        along = ends[1] - ends[0]
        length = float(np.hypot(along[0], along[1]))
        unit = along / length if length > 1e-6 else np.array([1.0, 0.0])
        across = np.array([-unit[1], unit[0]])
        if max(radii) < _SLIM and length > max(radii):
            sides = np.array([[radii[0]], [radii[1]]]) * across
            corners = np.concatenate([ends + sides, (ends - sides)[::-1]])
            self.polygon(corners, color, identity, depth)
            return
        ahead = _CAP[:, :1] * unit + _CAP[:, 1:] * across
        behind = -ahead
        points = np.concatenate([ends[1] + radii[1] * ahead, ends[0] + radii[0] * behind])
        self.polygon(points, color, identity, depth)

    def ring(
        self,
        outer: FloatArray,
        inner: FloatArray,
        color: FloatArray,
        what: tuple[int, float],
    ) -> None:
        """Fill between two outlines; what shows through the inner one is labelled all the same.

        Args:
            outer: (n, 2) row and column in pixels.
            inner: (m, 2) the hole, likewise.
            color: (3,) RGB.
            what: the identity and the depth in metres.
        """
        flat = self.color.reshape(3, -1)
        hole = pixels_inside(inner, self.shape)
        through = flat[:, hole]
        self.polygon(outer, color, *what)
        flat[:, hole] = 0.78 * through + 0.22 * color[:, None]

    def patch(
        self,
        rows: slice,
        columns: slice,
        color: FloatArray,
        identity: int,
        depth: FloatArray | float,
        where: NDArray[np.bool_],
    ) -> None:
        """Paint a rectangle's pixels where `where` (h, w) is true; color is (3, h, w)."""
        np.copyto(self.color[:, rows, columns], color, where=where)
        np.copyto(self.ids[rows, columns], np.uint16(identity), where=where)
        np.copyto(self.depth[rows, columns], np.asarray(depth, np.float32), where=where)
