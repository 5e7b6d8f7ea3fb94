"""Write packed frames, many processes at once: the place is reserved, then filled by the frame.

Without PyTorch, which would cost each of those processes a second and 130 MB.
"""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IMAGES = "images.npy"
LABELS = "labels.npy"
NAMES = "frames.csv"


def bytes_needed(num_frames: int, size: tuple[int, int]) -> int:
    """Bytes that the pixels and labels of so many frames of (rows, columns) take on the disk."""
    return num_frames * size[0] * size[1] * 4  # three of color, one of label


def allocate(folder: Path, names: Sequence[str], size: tuple[int, int]) -> None:
    """Make a folder of packed frames that are all zero, with the disk space they will need.

    The space is taken now, so that a full disk is an error here and not a crash while frames are
    written; nothing is held in memory.

    Args:
        folder: what to make; its parent exists.
        names: n keys, in the order of the frames.
        size: rows and columns, pixels.

    Raises:
        ValueError: for no name at all, or a name that occurs twice.
        OSError: where the disk is full.
    """
    if not names:
        raise ValueError(f"{folder}: there is no frame to pack")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{folder}: {len(twice)} frames occur more than once (first: {twice[0]})")
    folder.mkdir()
    _create_array(folder / IMAGES, (len(names), *size, 3))
    _create_array(folder / LABELS, (len(names), *size))
    with (folder / NAMES).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["frame"], *([key] for key in names)])


def write_frame(
    folder: Path, index: int, image: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    """Write one frame into its place; processes may do so at once, each its own frames.

    Args:
        folder: what `reserve` made.
        index: of the frame, in the order of the names.
        image: (rows, columns, 3) uint8.
        labels: (rows, columns) uint8.

    Raises:
        OSError: where the disk is full after all (where files are copied on writing).
    """
    # Written, not mapped: memory does not fill with pages, and a full disk is no crash.
    for name, frame in ((IMAGES, image), (LABELS, labels)):
        with (folder / name).open("r+b") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, _, _ = np.lib.format.read_array_header_1_0(file)
            assert frame.shape == shape[1:]
            assert 0 <= index < shape[0]
            file.seek(index * frame.nbytes, os.SEEK_CUR)
            file.write(np.ascontiguousarray(frame, dtype=np.uint8).data)


def _create_array(path: Path, shape: tuple[int, ...]) -> None:
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
