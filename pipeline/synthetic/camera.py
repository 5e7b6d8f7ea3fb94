"""Project points of the street into the picture, and pixels back onto the street."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
"""Arrays of either precision; those as large as the picture are float32."""

NEAR = 1.2
"""Meters; nothing closer is projected, so that no point is behind the lens."""

FAR = 2000.0
"""Meters; the ground right below the horizon is taken to lie here."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the street.

    World coordinates are meters: x to the right of the camera, y above the street, z ahead.
    `focal`, `horizon` (a row) and `center` (the column of the vanishing point) are pixels of a
    picture of `rows` x `columns`; `height` is the lens's height above the street in meters.
    `traveled` is how far it has moved along the street in a drive, meters: patterns on the ground
    and on walls are fixed to the street, at z + `traveled`.
    """

    rows: int
    columns: int
    focal: float
    horizon: float
    center: float
    height: float
    traveled: float = 0.0

    def project(self, points: FloatArray) -> FloatArray:
        """(n, 3) world points in meters -> (n, 2) row and column in pixels."""
        scale = self.focal / np.maximum(points[:, 2], NEAR)
        pixels = np.empty((len(points), 2))
        pixels[:, 0] = self.horizon + (self.height - points[:, 1]) * scale
        pixels[:, 1] = self.center + points[:, 0] * scale
        return pixels

    def pixels_per_meter(self, z: float) -> float:
        """Return the pixels of one meter across the view, z meters ahead."""
        return self.focal / max(z, NEAR)

    def column_of(self, x: float, z: float) -> float:
        """Return the column, in pixels, of points x meters to the right and z meters ahead."""
        return self.center + x * self.pixels_per_meter(z)

    def row_of(self, y: float, z: float) -> float:
        """Return the row, in pixels, of points y meters above the street and z meters ahead."""
        return self.horizon + (self.height - y) * self.pixels_per_meter(z)

    @cached_property
    def ground(self) -> tuple[int, FloatArray, FloatArray]:
        """Compute which point of the street every pixel below the horizon shows.

        Returns:
            The first row below the horizon; x (r, columns) and z (r, 1) in meters for the r rows
            from there to the bottom.
        """
        first = max(0, int(np.ceil(self.horizon)))
        below = np.arange(first, self.rows, dtype=np.float32) + 0.5 - self.horizon
        z = np.minimum(self.height * self.focal / np.maximum(below, 0.05), FAR)[:, None]
        sideways = np.arange(self.columns, dtype=np.float32) + 0.5 - self.center
        return first, (sideways[None] * z / self.focal).astype(np.float32), z.astype(np.float32)


def draw_camera(rng: np.random.Generator, rows: int, columns: int) -> Camera:
    """Draw a camera with the small variations in pitch and heading of a moving car."""
    return Camera(
        rows=rows,
        columns=columns,
        # 2,262 pixels at 1,024 rows in the real set, whatever the picture's width here.
        focal=2.2 * rows * rng.uniform(0.95, 1.05),
        horizon=rows * rng.uniform(0.395, 0.45),
        center=columns / 2 + rows * rng.uniform(-0.22, 0.22),
        height=rng.uniform(1.18, 1.30),
    )
