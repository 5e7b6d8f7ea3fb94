"""Noise for surfaces: clouds, leaves, asphalt and plaster all read one pair of seamless tiles."""

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.camera import FloatArray

TILE = 256
"""Rows and columns of a tile; a power of two, so that a lookup wraps with one `and`."""


@dataclass(frozen=True)
class Texture:
    """Two tiles of noise around 0 (about -1..1) that repeat without a seam, and a table of lots.

    `smooth` has large patches with detail in them, `fine` only grain; `chance` is uniform in 0..1.
    """

    smooth: FloatArray
    fine: FloatArray
    chance: FloatArray

    def patches(self, row: FloatArray, column: FloatArray) -> FloatArray:
        """Read the smooth tile at coordinates in tile cells, of any shapes that broadcast."""
        return _read(self.smooth, row, column)

    def grain(self, row: FloatArray, column: FloatArray) -> FloatArray:
        """Read the fine tile at coordinates in tile cells, of any shapes that broadcast."""
        return _read(self.fine, row, column)

    def lot(self, row: FloatArray, column: FloatArray) -> FloatArray:
        """Give every cell of a grid (a window, a stone) its own number in 0..1, always the same."""
        return _read(self.chance, row, column)


def make_texture(rng: np.random.Generator) -> Texture:
    """Fill the tiles."""
    smooth = np.zeros((TILE, TILE), np.float32)
    for cells in (4, 8, 16, 32, 64, 128):
        smooth += _octave(rng, cells) * cells**-0.55
    fine = np.zeros((TILE, TILE), np.float32)
    for cells, share in ((64, 0.5), (128, 0.6), (256, 0.6)):
        fine += _octave(rng, cells) * share
    chance = rng.random((TILE, TILE), dtype=np.float32)
    return Texture(_normalised(smooth), _normalised(fine), chance)


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


def _normalised(noise: FloatArray) -> FloatArray:
    # In one piece: a lookup that had to copy the tile first would cost more than all else.
    return np.ascontiguousarray((noise - noise.mean()) / (2 * noise.std()), np.float32)


def _read(tile: FloatArray, row: FloatArray, column: FloatArray) -> FloatArray:
    place = (row.astype(np.int32) & (TILE - 1)) * TILE + (column.astype(np.int32) & (TILE - 1))
    return tile.ravel().take(place)
