"""Simple test frames, so that benchmarks need no data: in memory, or as PNG files."""

from pathlib import Path

import numpy as np
from PIL import Image

from segformer.cityscapes import IGNORE, NUM_CLASSES
from segformer.data.packed_frames import PackedFrames

_RECTANGLES = 60
"""Per frame. With the noise, an image of 1024 x 2048 is 3 MB as PNG, a real one 2.3 MB."""

_NOISE = 6
"""Gray levels of noise; without it PNGs would decode too fast."""


def make_test_frames(number: int, size: tuple[int, int], seed: int = 0) -> PackedFrames:
    """Draw frames of overlapping rectangles, one class and one color each, with noise on them.

    Args:
        number: number of frames.
        size: rows and columns, pixels.
        seed: the same seed gives the same frames.
    """
    generator = np.random.default_rng(seed)
    palette = generator.integers(_NOISE, 256 - _NOISE, (256, 3), dtype=np.uint8)
    labels = np.full((number, *size), IGNORE, np.uint8)
    for frame in labels:
        for _ in range(_RECTANGLES):
            top, left = (int(generator.integers(-side // 4, side)) for side in size)
            rows, columns = (int(generator.integers(side // 8, side // 2)) for side in size)
            window = slice(max(top, 0), max(top + rows, 0)), slice(max(left, 0), left + columns)
            frame[window] = generator.integers(NUM_CLASSES)
    images = palette[labels]
    for image in images:
        image += generator.integers(0, _NOISE, image.shape, dtype=np.uint8)
    return PackedFrames(images, labels, [f"drawn_{index:04}" for index in range(number)])


def write_pngs(frames: PackedFrames, folder: Path) -> list[tuple[Path, Path]]:
    """Write photographs and label maps (train ids); return the pairs of files."""
    pairs = []
    for name, image, labels in zip(frames.names, frames.images, frames.labels, strict=True):
        pair = folder / f"{name}_image.png", folder / f"{name}_labels.png"
        for path, array in zip(pair, (image, labels), strict=True):
            Image.fromarray(array).save(path)
        pairs.append(pair)
    return pairs
