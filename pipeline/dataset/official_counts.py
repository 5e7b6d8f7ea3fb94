"""The published set's frames and training pixels: whether a set is that one, and what differs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from segformer.cityscapes import LABELS

OFFICIAL_FRAMES = {
    "train": {
        "aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85,
        "dusseldorf": 221, "erfurt": 109, "hamburg": 248, "hanover": 196, "jena": 119,
        "krefeld": 99, "monchengladbach": 94, "strasbourg": 365, "stuttgart": 196,
        "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122,
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
}  # fmt: skip
"""Finely labelled frames by official split and city: 2975 to train on, 500 to validate on."""

EXTRA_FRAMES = 19_998
"""Coarsely labelled frames, of the official split train_extra."""

FRAME_SIZE = (1024, 2048)
"""Rows and columns."""

FRAME_PIXELS = FRAME_SIZE[0] * FRAME_SIZE[1]
OFFICIAL_PIXELS: tuple[int, ...] = (
    704_950, 286_002_726, 81_359_604, 94_111_150, 83_752_079, 17_818_704, 75_629_728,
    2_036_416_525, 336_090_793, 39_065_130, 11_239_214, 1_260_636_120, 36_199_498, 48_454_166,
    547_202, 17_860_177, 3_362_825, 67_789_506, 499_872, 11_477_088, 30_448_193, 879_783_988,
    63_949_536, 221_979_646, 67_326_424, 7_463_162, 386_328_286, 14_772_328, 12_990_290,
    2_493_375, 1_300_575, 12_863_955, 5_449_152, 22_861_233,
)  # fmt: skip
"""Pixels by label id, 0 to 33, of the 2975 fine training frames of gtFine_trainvaltest.zip.

They sum to exactly 2975 x 1024 x 2048; 5,523,279,889 of them belong to the 19 classes.
"""


def has_official_size(per_frame: NDArray[np.int64]) -> bool:
    """Whether as many frames of the same size were counted as the official training set has.

    Args:
        per_frame: (frames, 34) pixels of every label id.
    """
    return len(per_frame) == sum(OFFICIAL_FRAMES["train"].values()) and bool(
        (per_frame.sum(axis=1) == FRAME_PIXELS).all()
    )


def describe_differences(per_frame: NDArray[np.int64]) -> list[str]:
    """Say of every label id that is not as frequent as in the official set how it differs.

    Args:
        per_frame: (frames, 34) pixels of every label id.
    """
    counted = per_frame.sum(axis=0).tolist()
    return [
        f"{label.name} {pixels:,} for {official:,}"
        for label, pixels, official in zip(LABELS, counted, OFFICIAL_PIXELS, strict=True)
        if pixels != official
    ]


def find_missing_frames(frames: Iterable[str]) -> list[str]:
    """Say of every split that is most of an official one, but not all of it, what is missing.

    Args:
        frames: keys, `train/aachen/aachen_000000_000019`; what lies in other splits is passed over.
    """
    held = Counter(tuple(key.split("/")[:2]) for key in frames)
    told = []
    for split, cities in OFFICIAL_FRAMES.items():
        here = {city: number for (where, city), number in held.items() if where == split}
        official = sum(cities.values())
        fewer = {city: here.get(city, 0) for city in cities if here.get(city, 0) < cities[city]}
        missing = sum(cities[city] - fewer[city] for city in fewer)
        # Half of it, or other cities, is a choice and no accident.
        if 0 < missing < official / 2 and here.keys() <= cities.keys():
            places = ", ".join(f"{city} has {fewer[city]} of {cities[city]}" for city in fewer)
            told.append(
                f"{missing} of the {official} official {split} frames"
                f" {'is' if missing == 1 else 'are'} missing: {places}. Unless you left them"
                " out yourself, fetch both packages again; no score compares with a published one"
            )
    return told


def compare_counts(
    frames: Sequence[str], per_frame: NDArray[np.int64]
) -> Iterator[tuple[bool, str]]:
    """Compare with the official set: whether it agrees, and a sentence, for all that can be told.

    Nothing is told of a set that is far from the official one.

    Args:
        frames: n keys, however they were divided.
        per_frame: (n, 34) pixels of every label id.
    """
    for gap in find_missing_frames(frames):
        yield False, gap
    training = per_frame[[key.startswith("train/") for key in frames]]
    if not has_official_size(training):
        return
    unlike = describe_differences(training)
    if not unlike:
        yield True, f"the counts are the official ones: all {len(OFFICIAL_PIXELS)} agree"
        return
    yield (
        False,
        f"{len(unlike)} of {len(OFFICIAL_PIXELS)} counts are not those of the official training set,"
        f" though it has as many frames of this size: {'; '.join(unlike)}. Unless you changed the"
        " labels yourself, fetch gtFine_trainvaltest.zip again; no score compares with a published"
        " one",
    )
