"""Noise for surfaces: clouds, leaves, asphalt and plaster use one pair of seamless tiles."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.synthetic.camera import FloatArray

TILE = 256
"""Rows and columns of a tile; a power of two, so that a lookup wraps with one `and`."""


@dataclass(frozen=True)
class Texture:
    """Two tiles of noise around 0 (about -1..1) that repeat without a seam, and a table of lots.

    `smooth` has large patches with detail in them, `fine` only grain; `uniform` is uniform in 0..1.
    """

    smooth: FloatArray
    fine: FloatArray
    uniform: FloatArray

    def patches(self, row: FloatArray, column: FloatArray) -> FloatArray:
        """Read the smooth tile at coordinates in tile cells, of any shapes that broadcast."""
        return _read(self.smooth, row, column)

    def grain(self, row: FloatArray, column: FloatArray) -> FloatArray:
        """Read the fine tile at coordinates in tile cells, of any shapes that broadcast."""
        return _read(self.fine, row, column)

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

    return Texture(*(cut(tile) for tile in _base_tiles()))


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
