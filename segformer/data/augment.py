"""Random scale, crop, flip and color: what becomes of a frame, decided on the host."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segformer.cityscapes import IGNORE
from segformer.data.color_jitter import NEUTRAL_RANDOM, NUM_COLOR_RANDOM, color_matrix
from segformer.data.resize import nearest_pixels

MAX_CROP_TRIES = 10
"""Places tried for a crop until no class has too much of it; the last one is taken as it is."""

NUM_RANDOM = 1 + 2 * MAX_CROP_TRIES + 1 + NUM_COLOR_RANDOM
"""Numbers drawn for a frame: the factor, rows and columns of the places, the flip, the colors."""


@dataclass(frozen=True)
class CropPlan:
    """What becomes of one frame: `render` makes the image of it.

    `rows` and `columns` are the window of the frame, whole pixels. It is brought to `size`, rows
    and columns, which fill the crop or less of it: then they lie at its top left. After that left
    and right are swapped if it `is_flipped`. `color_matrix` are the (3, 5) float32 of `color_numbers`,
    and `labels` the (*crop) uint8 train ids, cut and flipped already.
    """

    rows: slice
    columns: slice
    size: tuple[int, int]
    is_flipped: bool
    color_matrix: NDArray[np.float32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Augment:
    """The paper's augmentation, one frame at a time; all that is random is handed in.

    Each frame is scaled by a random factor and cut to `crop`; image and label are cut from the same
    whole pixels, so that they stay together. What the scaled frame does not fill, below and beside
    it, is mean color and IGNORE. A crop is placed anew, up to TRIES times in all, if one class has
    more than `max_class_share` of its labeled pixels, or if none is labeled.

    Args:
        crop: rows and columns of the result, pixels.
        scale: least and greatest factor, drawn evenly between.
        max_class_share: largest share of the labeled pixels that one class may have, up to 1.
        flip: whether left and right are swapped in half of the frames.
        photometric: whether brightness, contrast, saturation and hue each change in half of them.

    Raises:
        ValueError: for a size, factor or share that cannot be.
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
            raise ValueError(f"scale is {self.scale}; it must be above 0, the lesser factor first")
        if not 0 < self.max_class_share <= 1:
            raise ValueError(
                f"max_class_share is {self.max_class_share}; it must be above 0 and at most 1"
            )

    def plan(self, labels: NDArray[np.uint8], random_numbers: NDArray[np.float64]) -> CropPlan:
        """Decide what becomes of a frame.

        Args:
            labels: (h, w) uint8 train ids of the whole frame.
            random_numbers: (DRAWS,) numbers from 0 to below 1; the same ones give the same cut.
        """
        is_flipped = self.flip and bool(random_numbers[1 + 2 * MAX_CROP_TRIES] < 0.5)
        factor = self.scale[0] + random_numbers[0] * (self.scale[1] - self.scale[0])
        spans = [
            _crop_extent(side, crop, factor)
            for side, crop in zip(labels.shape, self.crop, strict=True)
        ]
        (from_h, to_h), (from_w, to_w) = spans
        top, left, found = self._find_crop(
            labels, spans, random_numbers[1 : 1 + 2 * MAX_CROP_TRIES]
        )
        target = np.full(self.crop, IGNORE, np.uint8)
        target[:to_h, :to_w] = found
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
        spans: list[tuple[int, int]],
        random_numbers: NDArray[np.float64],
    ) -> tuple[int, int, NDArray[np.uint8]]:
        """Give the row and column where a crop begins, and its labels (to_h, to_w)."""
        (h, w), ((from_h, to_h), (from_w, to_w)) = labels.shape, spans
        rows, columns = nearest_pixels(from_h, to_h), nearest_pixels(from_w, to_w)
        for row_draw, column_draw in random_numbers.reshape(MAX_CROP_TRIES, 2):
            top, left = int(row_draw * (h - from_h + 1)), int(column_draw * (w - from_w + 1))
            found = labels[top + rows].take(left + columns, axis=1)
            if meets_class_share(found, self.max_class_share):
                break
        return top, left, found


def meets_class_share(labels: NDArray[np.uint8], max_class_share: float) -> bool:
    """Whether there are labeled pixels, and no class has more than its share of them.

    Args:
        labels: (h, w) uint8 train ids.
        max_class_share: from 0 to 1.
    """
    unseen = np.count_nonzero(labels != IGNORE)
    if unseen == 0:
        return False
    most = max_class_share * unseen
    # The likeliest classes are counted until all others together are not too many. Mostly these
    # are one or two, and a histogram takes ten times as long as one count.
    likely = np.bincount(labels[::8, ::8].ravel(), minlength=IGNORE)[:IGNORE].argsort()[::-1]
    for train_id in likely:
        count = np.count_nonzero(labels == train_id)
        if count > most:
            return False
        unseen -= count
        if unseen <= most:
            break
    return True


def _crop_extent(side: int, crop: int, factor: float) -> tuple[int, int]:
    """How many pixels of a side are taken, and how many they become."""
    taken = max(1, round(crop / factor))
    if taken <= side:
        return taken, crop
    return side, min(crop, max(1, round(side * factor)))
