"""Write packed frames from several processes: allocate the arrays, then write frame by frame.

This module does not import PyTorch, which would cost each process a second and 130 MB.
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
    """Return the bytes on disk of `num_frames` images and label maps of (rows, columns)."""
    return num_frames * size[0] * size[1] * 4  # three of color, one of label


def allocate(folder: Path, names: Sequence[str], size: tuple[int, int]) -> None:
    """Create a folder of packed frames, all zero, and reserve their disk space.

    The space is reserved first, so that a full disk is an error here and not a crash while frames
    are written. Nothing is held in memory.

    Args:
        folder: created; its parent exists.
        names: n keys, in the order of the frames.
        size: rows and columns, pixels.

    Raises:
        ValueError: for no names, or a name that occurs twice.
        OSError: if the disk is full.
    """
    if not names:
        raise ValueError(f"{folder}: no frames to pack")
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise ValueError(
            f"{folder}: {len(duplicates)} frames occur more than once (first: {duplicates[0]})"
        )
    folder.mkdir()
    _create_array(folder / IMAGES, (len(names), *size, 3))
    _create_array(folder / LABELS, (len(names), *size))
    with (folder / NAMES).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["frame"], *([key] for key in names)])


def write_frame(
    folder: Path, index: int, image: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    """Write one frame; several processes may write different frames at the same time.

    Args:
        folder: created by `allocate`.
        index: position of the frame in the order of the names.
        image: (rows, columns, 3) uint8.
        labels: (rows, columns) uint8.

    Raises:
        OSError: if the disk is full after all (on copy-on-write file systems).
    """
    # Not memory-mapped: pages do not fill the memory, and a full disk is an error, not a crash.
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
