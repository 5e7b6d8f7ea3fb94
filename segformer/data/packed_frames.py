"""The packed dataset: frames of one size in two memory-mapped arrays, and their normalization."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.atomic import replacing
from segformer.data.packing import IMAGES, LABELS, NAMES, allocate

MEAN = (0.485, 0.456, 0.406)
"""ImageNet mean of red, green and blue, 0..1, with which the released encoders were trained."""

STD = (0.229, 0.224, 0.225)
"""ImageNet standard deviation of red, green and blue."""


@dataclass(frozen=True)
class PackedFrames:
    """Frames of one size, read from disk on access.

    Attributes:
        images: (n, h, w, 3) uint8 RGB.
        labels: (n, h, w) uint8 train ids.
        names: n keys.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    names: list[str]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the arrays in `folder` into memory, read-only.

        Raises:
            ValueError: for a missing or damaged file, no frames, or arrays of inconsistent shapes.
        """
        missing = [name for name in (IMAGES, LABELS, NAMES) if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f"{folder}: missing files: {', '.join(missing)}; pack the frames again"
            )
        frames = cls(_map(folder / IMAGES), _map(folder / LABELS), _read_names(folder / NAMES))
        frames._check(folder)
        return frames

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of every frame, in pixels."""
        rows, columns = self.labels.shape[1:]
        return rows, columns

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Copy the frames at `indices`: (b, h, w, 3) uint8 images and (b, h, w) uint8 labels."""
        rows = np.asarray(indices, dtype=np.int64)
        return torch.from_numpy(self.images[rows]), torch.from_numpy(self.labels[rows])

    def _check(self, folder: Path) -> None:
        n, shape = len(self.names), self.images.shape
        if n == 0:
            raise ValueError(f"{folder}: no frames; pack at least one")
        if len(shape) != 4 or (shape[0], shape[3]) != (n, 3) or self.labels.shape != shape[:3]:
            raise ValueError(
                f"{folder}: inconsistent shapes: images {shape}, labels {self.labels.shape}, "
                f"{n} names; expected (n, h, w, 3), (n, h, w) and n; pack the frames again"
            )


@contextmanager
def create(
    folder: Path, names: Sequence[str], size: tuple[int, int]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Create packed frames: yield arrays to fill, and replace `folder` by them on success.

    On an error nothing is left behind, and an existing `folder` is unchanged. The disk space is
    reserved first, so that a full disk is an error here and not a crash while frames are written.

    Args:
        folder: where the packed frames are written.
        names: n keys, in the order of the frames.
        size: rows and columns, pixels.

    Yields:
        Writable images (n, h, w, 3) and labels (n, h, w), both uint8.

    Raises:
        ValueError: for no names, or a name that occurs twice.
        OSError: if the disk is full.
    """
    with replacing(folder) as part:
        allocate(part, names, size)
        images, labels = (
            np.lib.format.open_memmap(part / name, mode="r+") for name in (IMAGES, LABELS)
        )
        yield images, labels
        images.flush()
        labels.flush()


def normalize(images: Tensor) -> Tensor:
    """(b, h, w, 3) RGB, 0..255 -> (b, 3, h, w) float32, normalized by MEAN and STD."""
    mean = 255 * torch.tensor(MEAN, device=images.device)
    std = 255 * torch.tensor(STD, device=images.device)
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)


def _map(path: Path) -> NDArray[np.uint8]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: damaged ({error}); pack the frames again") from error
    if array.dtype != np.uint8:
        raise ValueError(f"{path}: {array.dtype} instead of uint8; pack the frames again")
    # A plain array over the same map: slices of a memmap would be memmaps too.
    plain: NDArray[np.uint8] = np.asarray(array)
    return plain


def _read_names(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if "frame" not in (rows.fieldnames or ()):
            raise ValueError(f"{path}: no column 'frame'; pack the frames again")
        return [row["frame"] for row in rows]
