"""The layers painted back to front: color, instance id and depth of every pixel."""

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.outline import pixel_span, rasterize_polygon
from segformer.cityscapes import LABELS

LABEL_ID = {label.name: label.label_id for label in LABELS}
"""The official label id of every class name."""

INSTANCE_BASE = 1000
"""An instance's id is its class's label id times this, plus its number in the frame."""

SKY_DEPTH = 1e6
"""Meters; the depth of unpainted pixels, which are sky."""

_GROUP_DISTANCE = 75.0  # Meters; farther objects count as a group.
_MIN_SHADED_RADIUS = 1.2  # Pixels; on a bar with a smaller radius nobody sees that it is round.
_MIN_BAR_LENGTH_SQUARED = 1e-9  # Square pixels; a bar with ends this close is a disc.


def instance_id(name: str, number: int, z: float) -> int:
    """Return the id of an object of a class with instances, z meters away, by its number."""
    return LABEL_ID[name] if z > _GROUP_DISTANCE else LABEL_ID[name] * INSTANCE_BASE + number


class Canvas:
    """Three layers of one size that are always painted together.

    Attributes:
        color: (3, h, w) float32 RGB; 0..1 is what the camera can show. Planes, since a number per
            pixel then multiplies all three at full speed.
        ids: (h, w) uint16 instance ids as the official set writes them.
        depth: (h, w) float32, meters.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.color = np.zeros((3, rows, columns), np.float32)
        self.ids = np.zeros((rows, columns), np.uint16)
        self.depth = np.full((rows, columns), SKY_DEPTH, np.float32)
        self._counts: dict[str, int] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.ids.shape
        return rows, columns

    def new_instance(self, name: str, z: float) -> int:
        """Return the id of the next object of a class with instances, z meters away.

        Beyond where one can be told from the next it is the label id: a group, as annotators say.
        """
        if z > _GROUP_DISTANCE:
            return LABEL_ID[name]
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        return instance_id(name, number, z)

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
            identity: what `ids` shall hold; None paints color only (a decal, a wire).
            depth: meters.
            gradient: how much brighter the top is than the bottom, as a fraction.
        """
        found = rasterize_polygon(points, self.shape)
        if found is None:
            return
        rows, columns, inside = found
        value = color[:, None, None]
        if gradient:
            part = np.arange(len(inside), dtype=np.float32) / np.float32(max(1, len(inside) - 1))
            value = (1 + np.float32(gradient) * (np.float32(0.5) - part))[:, None] * value
        np.copyto(self.color[:, rows, columns], value, where=inside, casting="same_kind")
        if identity is not None:
            np.copyto(self.ids[rows, columns], np.uint16(identity), where=inside)
            np.copyto(self.depth[rows, columns], np.float32(depth), where=inside)

    def capsule(
        self,
        ends: FloatArray,
        radii: tuple[float, float],
        color: FloatArray,
        id_and_depth: tuple[int, float],
        lit: float = 0.0,
    ) -> None:
        """Fill a rounded bar.

        Args:
            ends: (2, 2) row and column of its two ends, pixels.
            radii: its radius at each of them, pixels.
            color: (3,) RGB.
            id_and_depth: the identity and the depth in meters.
            lit: how much brighter its right edge is than its middle, as a fraction; it is round.
        """
        (row, column), (to_row, to_column) = ends.tolist()
        near, far = radii
        first, last = pixel_span((min(row - near, to_row - far), max(row + near, to_row + far)),
                           self.ids.shape[0])  # fmt: skip
        left, right = pixel_span((min(column - near, to_column - far),
                            max(column + near, to_column + far)), self.ids.shape[1])  # fmt: skip
        if last <= first or right <= left:
            return
        down, across = to_row - row, to_column - column
        length = down * down + across * across
        # How far along the bar each pixel is, 0..1, and from there how far off its middle line.
        rows = np.arange(first, last)[:, None] + (0.5 - row)
        columns = np.arange(left, right) + (0.5 - column)
        along: FloatArray = np.zeros((1, 1))
        if length > _MIN_BAR_LENGTH_SQUARED:
            along = rows * (down / length) + columns * (across / length)
            np.maximum(along, 0, out=along)
            np.minimum(along, 1, out=along)
        off_row, off = rows - along * down, columns - along * across
        radius = near + (far - near) * along
        inside = off_row * off_row + off * off < radius * radius
        value = color[:, None, None]
        if lit and max(radii) > _MIN_SHADED_RADIUS:
            value = value * (1 + lit * (off / radius)).astype(np.float32)
        box = np.s_[first:last, left:right]
        np.copyto(self.color[:, *box], value, where=inside, casting="same_kind")
        np.copyto(self.ids[box], np.uint16(id_and_depth[0]), where=inside)
        np.copyto(self.depth[box], np.float32(id_and_depth[1]), where=inside)

    def ring(
        self,
        outer: FloatArray,
        inner: FloatArray,
        color: FloatArray,
        id_and_depth: tuple[int, float],
    ) -> None:
        """Fill between two outlines; pixels inside the inner one get the label, too.

        Args:
            outer: (n, 2) row and column in pixels.
            inner: (m, 2) the hole, likewise.
            color: (3,) RGB.
            id_and_depth: the identity and the depth in meters.
        """
        hole = rasterize_polygon(inner, self.shape)
        if hole is None:
            self.polygon(outer, color, *id_and_depth)
            return
        through = self.color[:, hole[0], hole[1]] * np.float32(0.78) + 0.22 * color[:, None, None]
        self.polygon(outer, color, *id_and_depth)
        np.copyto(self.color[:, hole[0], hole[1]], through, where=hole[2], casting="same_kind")

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
