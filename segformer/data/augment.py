"""Augmentation: random scale, crop, flip and color jitter of a frame, planned on the host."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segformer.cityscapes import IGNORE
from segformer.data.color_jitter import NEUTRAL_RANDOM, NUM_COLOR_RANDOM, color_matrix
from segformer.data.resize import nearest_pixels

MAX_CROP_TRIES = 10
"""Crop positions tried until no class exceeds its share; the last one is always accepted."""

NUM_RANDOM = 1 + 2 * MAX_CROP_TRIES + 1 + NUM_COLOR_RANDOM
"""Random numbers per frame: scale, rows and columns of the positions, flip, color jitter."""


@dataclass(frozen=True)
class CropPlan:
    """The augmentation of one frame; `render` applies it to the image.

    Attributes:
        rows: of the frame, in whole pixels: those of the window.
        columns: likewise.
        size: rows and columns the window is resized to; where that is less than the crop, it lies
            at the top left.
        is_flipped: whether the crop is then mirrored horizontally.
        color_matrix: (3, 5) float32, see `color_jitter.color_matrix`.
        labels: (*crop) uint8 train ids, already cropped and flipped.
    """

    rows: slice
    columns: slice
    size: tuple[int, int]
    is_flipped: bool
    color_matrix: NDArray[np.float32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Augment:
    """The paper's augmentation of one frame, as a function of given random numbers.

    Each frame is scaled by a random factor and cropped to `crop`; image and label are cut from the
    same whole pixels, so that they stay aligned. Padding, below and to the right of the scaled
    frame, is the mean color and IGNORE. A new crop position is tried, up to MAX_CROP_TRIES in all,
    if one class has more than `max_class_share` of the labeled pixels, or if none is labeled.

    Args:
        crop: rows and columns of the result, pixels.
        scale: smallest and largest factor, drawn uniformly between.
        max_class_share: largest share of the labeled pixels of one class, above 0 and at most 1.
        flip: whether half of the frames are mirrored horizontally.
        photometric: whether brightness, contrast, saturation and hue each change in half of them.

    Raises:
        ValueError: for a crop, scale or share out of range.
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    max_class_share: float = 0.75
    flip: bool = True
    photometric: bool = True

    def __post_init__(self) -> None:
        if min(self.crop) < 1:
            raise ValueError(f"crop is {self.crop}; rows and columns must be at least 1 pixel")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(
                f"scale is {self.scale}; give two factors above 0, the smaller one first"
            )
        if not 0 < self.max_class_share <= 1:
            raise ValueError(
                f"max_class_share is {self.max_class_share}; it must be above 0 and at most 1"
            )

    def plan(self, labels: NDArray[np.uint8], random_numbers: NDArray[np.float64]) -> CropPlan:
        """Plan the augmentation of a frame.

        Args:
            labels: (h, w) uint8 train ids of the whole frame.
            random_numbers: (NUM_RANDOM,) numbers in [0, 1); the same numbers give the same plan.
        """
        is_flipped = self.flip and bool(random_numbers[1 + 2 * MAX_CROP_TRIES] < 0.5)
        factor = self.scale[0] + random_numbers[0] * (self.scale[1] - self.scale[0])
        extents = [
            _crop_extent(side, crop, factor)
            for side, crop in zip(labels.shape, self.crop, strict=True)
        ]
        (from_h, to_h), (from_w, to_w) = extents
        top, left, crop_labels = self._find_crop(
            labels, extents, random_numbers[1 : 1 + 2 * MAX_CROP_TRIES]
        )
        target = np.full(self.crop, IGNORE, np.uint8)
        target[:to_h, :to_w] = crop_labels
        return CropPlan(
            rows=slice(top, top + from_h),
            columns=slice(left, left + from_w),
            size=(to_h, to_w),
            is_flipped=is_flipped,
            color_matrix=color_matrix(
                random_numbers[-NUM_COLOR_RANDOM:] if self.photometric else NEUTRAL_RANDOM
            ),
            labels=target[:, ::-1] if is_flipped else target,
        )

    def _find_crop(
        self,
        labels: NDArray[np.uint8],
        extents: list[tuple[int, int]],
        random_numbers: NDArray[np.float64],
    ) -> tuple[int, int, NDArray[np.uint8]]:
        """Return the first row and column of a crop, and its labels (to_h, to_w)."""
        (h, w), ((from_h, to_h), (from_w, to_w)) = labels.shape, extents
        rows, columns = nearest_pixels(from_h, to_h), nearest_pixels(from_w, to_w)
        for row_random, column_random in random_numbers.reshape(MAX_CROP_TRIES, 2):
            top, left = int(row_random * (h - from_h + 1)), int(column_random * (w - from_w + 1))
            crop_labels = labels[top + rows].take(left + columns, axis=1)
            if meets_class_share(crop_labels, self.max_class_share):
                break
        return top, left, crop_labels


def meets_class_share(labels: NDArray[np.uint8], max_class_share: float) -> bool:
    """Return whether there are labeled pixels, and no class has more than its share of them.

    Args:
        labels: (h, w) uint8 train ids.
        max_class_share: largest share of one class, 0..1.
    """
    remaining = np.count_nonzero(labels != IGNORE)
    if remaining == 0:
        return False
    limit = max_class_share * remaining
    # The most frequent classes, by a sample, are counted until the rest cannot exceed the share.
    # Mostly these are one or two, and a histogram takes ten times as long as one count.
    by_frequency = np.bincount(labels[::8, ::8].ravel(), minlength=IGNORE)[:IGNORE].argsort()[::-1]
    for train_id in by_frequency:
        count = np.count_nonzero(labels == train_id)
        if count > limit:
            return False
        remaining -= count
        if remaining <= limit:
            break
    return True


def _crop_extent(side: int, crop: int, factor: float) -> tuple[int, int]:
    """Return how many pixels of a side are cropped, and to how many they are scaled."""
    cropped = max(1, round(crop / factor))
    if cropped <= side:
        return cropped, crop
    return side, min(crop, max(1, round(side * factor)))
