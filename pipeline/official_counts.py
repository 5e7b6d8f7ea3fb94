"""The published training set's pixel counts: whether a set is that one, label id by label id."""

import numpy as np
from numpy.typing import NDArray

from segformer.cityscapes import LABELS

FRAMES = 2975
FRAME_PIXELS = 1024 * 2048
PIXELS: tuple[int, ...] = (
    704_950, 286_002_726, 81_359_604, 94_111_150, 83_752_079, 17_818_704, 75_629_728,
    2_036_416_525, 336_090_793, 39_065_130, 11_239_214, 1_260_636_120, 36_199_498, 48_454_166,
    547_202, 17_860_177, 3_362_825, 67_789_506, 499_872, 11_477_088, 30_448_193, 879_783_988,
    63_949_536, 221_979_646, 67_326_424, 7_463_162, 386_328_286, 14_772_328, 12_990_290,
    2_493_375, 1_300_575, 12_863_955, 5_449_152, 22_861_233,
)  # fmt: skip
"""Pixels by label id, 0 to 33, of the 2975 fine training frames of gtFine_trainvaltest.zip.

They sum to exactly 2975 x 1024 x 2048; 5,523,279,889 of them belong to the 19 classes.
"""


def is_of_that_size(per_frame: NDArray[np.int64]) -> bool:
    """Whether as many frames of the same size were counted as the official training set has.

    Args:
        per_frame: (frames, 34) pixels of every label id.
    """
    return len(per_frame) == FRAMES and bool((per_frame.sum(axis=1) == FRAME_PIXELS).all())


def differences(per_frame: NDArray[np.int64]) -> list[str]:
    """Say of every label id that is not as frequent as in the official set how it differs.

    Args:
        per_frame: (frames, 34) pixels of every label id.
    """
    counted = per_frame.sum(axis=0).tolist()
    return [
        f"{label.name} {pixels:,} for {official:,}"
        for label, pixels, official in zip(LABELS, counted, PIXELS, strict=True)
        if pixels != official
    ]


def verdict(per_frame: NDArray[np.int64]) -> tuple[bool, str] | None:
    """Compare with the official training set: whether all counts agree, and a sentence.

    Args:
        per_frame: (frames, 34) pixels of every label id, of the frames that lie in `train/`.

    Returns:
        None for a set of another size: there is nothing to compare with.
    """
    if not is_of_that_size(per_frame):
        return None
    unlike = differences(per_frame)
    if not unlike:
        return True, f"the counts are the official ones: all {len(PIXELS)} agree"
    return False, (
        f"{len(unlike)} of {len(PIXELS)} counts are not those of the official training set,"
        f" though it has as many frames of this size: {'; '.join(unlike)}. Unless you changed the"
        " labels yourself, fetch gtFine_trainvaltest.zip again; no score compares with a published"
        " one"
    )
