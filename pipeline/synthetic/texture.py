"""Noise for surfaces: clouds, leaves, asphalt and plaster use one pair of seamless tiles."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.synthetic.camera import FloatArray

TILE = 256
"""Rows and columns of a tile; a power of two, so that a lookup wraps with one `and`."""


_PATCH_CELLS, _GRAIN_CELLS = 4.0, 1.5
"""Cells of a bump in each of the tiles that are still seen."""


@dataclass(frozen=True)
class Texture:
    """Two tiles of noise around 0 (about -1..1) that repeat without a seam, and a table of lots.

    `smooth` has large patches with detail in them, `fine` only grain; `uniform` is uniform in 0..1.
    With `fades`, noise fades where a pixel covers several cells, so that it does not flicker when
    the camera moves.
    """

    smooth: FloatArray
    fine: FloatArray
    uniform: FloatArray
    fades: bool = False

    def patches(self, row: FloatArray, column: FloatArray) -> FloatArray:
        """Read the smooth tile at coordinates in tile cells, of any shapes that broadcast."""
        noise = _read(self.smooth, row, column)
        return noise * _visibility(row, column, _PATCH_CELLS) if self.fades else noise

    def grain(self, row: FloatArray, column: FloatArray) -> FloatArray:
        """Read the fine tile at coordinates in tile cells, of any shapes that broadcast."""
        noise = _read(self.fine, row, column)
        return noise * _visibility(row, column, _GRAIN_CELLS) if self.fades else noise

    def cell_value(self, row: FloatArray, column: FloatArray) -> FloatArray:
        """Return a fixed number in 0..1 for every cell of a grid (a window, a stone)."""
        return _read(self.uniform, row, column)


def make_texture(rng: np.random.Generator) -> Texture:
    """Shift the shared tiles for one frame: the same noise with another origin."""
    row, column = (int(place) for place in rng.integers(TILE, size=2))
    turned = bool(rng.integers(2))

    def cut(tile: FloatArray) -> FloatArray:
        moved = np.roll(tile, (row, column), (0, 1))
        # In one piece: a lookup that had to copy the tile first would cost more than all else.
        return np.ascontiguousarray(moved.T if turned else moved)

    smooth, fine, uniform = (cut(tile) for tile in _base_tiles())
    return Texture(smooth, fine, uniform)


def stripe_cover(place: FloatArray, pitch: FloatArray, filled: float) -> FloatArray:
    """Return which share of each pixel lies on stripes, 0..1.

    Args:
        place: the middle of each pixel in periods of the stripes, any shape; the first part of each
            period is the stripe.
        pitch: how many periods each pixel covers, of a shape that broadcasts.
        filled: the stripe's share of a period.
    """

    def striped(end: FloatArray) -> FloatArray:
        whole = np.floor(end)
        return whole * filled + np.minimum(end - whole, filled)

    pitch = np.maximum(pitch, 1e-4)
    share: FloatArray = (striped(place + pitch / 2) - striped(place - pitch / 2)) / pitch
    return share


def _visibility(row: FloatArray, column: FloatArray, cells: float) -> FloatArray:
    """1 where a pixel covers less than `cells` cells of a tile, and less where it covers more."""
    if row.ndim < 2 or column.ndim < 2:
        return np.ones(1, np.float32)
    step = np.maximum(_steps(row, 0 if row.shape[0] > 1 else 1),
                      _steps(column, 1 if column.shape[1] > 1 else 0))  # fmt: skip
    step *= np.float32(1 / cells)
    visibility: FloatArray = 1 / (1 + step * step)
    return visibility


def _steps(place: FloatArray, axis: int) -> FloatArray:
    """From each place to the next one along an axis; the last step is repeated."""
    if place.shape[axis] < 2:
        return np.zeros_like(place, np.float32)
    step = np.abs(np.diff(place, axis=axis)).astype(np.float32)
    last = step[-1:] if axis == 0 else step[:, -1:]
    return np.concatenate([step, last], axis=axis)


@cache
def _base_tiles() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the tiles that all frames share, cached because filling them is slow."""
    rng = np.random.default_rng(2016)
    smooth = np.zeros((TILE, TILE), np.float32)
    # Each octave half the size of the one before, and cells ** -0.55 as strong.
    for cells, share in ((4, 0.467), (8, 0.319), (16, 0.218), (32, 0.149), (64, 0.102),
                         (128, 0.069)):  # fmt: skip
        smooth += _octave(rng, cells) * np.float32(share)
    fine = np.zeros((TILE, TILE), np.float32)
    for cells, share in ((64, 0.5), (128, 0.6), (256, 0.6)):
        fine += _octave(rng, cells) * np.float32(share)
    chance = rng.random((TILE, TILE), dtype=np.float32)
    return _standardize(smooth), _standardize(fine), chance


def _octave(rng: np.random.Generator, cells: int) -> FloatArray:
    """(TILE, TILE): noise with `cells` bumps a side, interpolated around the edges."""
    grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    if cells == TILE:
        return grid
    place = np.arange(TILE, dtype=np.float32) * (cells / TILE)
    low = place.astype(np.intp)
    part = place - low
    part = part * part * (3 - 2 * part)
    high = (low + 1) % cells
    tall = grid[low] * (1 - part[:, None]) + grid[high] * part[:, None]
    noise: FloatArray = tall[:, low] * (1 - part) + tall[:, high] * part
    return noise


def _standardize(noise: FloatArray) -> FloatArray:
    exact = noise.astype(np.float64)
    spread = 2 * exact.std()
    even: FloatArray = ((exact - exact.mean()) / spread).astype(np.float32)
    return even


def _read(tile: FloatArray, row: FloatArray, column: FloatArray) -> FloatArray:
    # As large as a pointer: any other kind of index is copied into one first.
    rows, columns = row.astype(np.intp) & (TILE - 1), column.astype(np.intp) & (TILE - 1)
    if row.ndim == column.ndim == 2 and row.shape[1] == column.shape[0] == 1:
        return tile.take(rows.ravel(), axis=0).take(columns.ravel(), axis=1)
    return tile.ravel().take(rows * TILE + columns, mode="wrap")
