"""Frames and training pixels of the published data set, and comparison with them."""

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
"""Finely labeled frames by official split and city: 2975 for training, 500 for validation."""

EXTRA_FRAMES = 19_998
"""Coarsely labeled frames of the official split train_extra."""

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
"""Pixels by label id, 0 to 33, of the 2975 fine training frames in gtFine_trainvaltest.zip.

They sum to exactly 2975 x 1024 x 2048; 5,523,279,889 of them belong to the 19 classes.
"""


def has_official_size(per_frame: NDArray[np.int64]) -> bool:
    """Whether the number and size of the frames are those of the official training set.

    Args:
        per_frame: (frames, 34) pixels of every label id.
    """
    return len(per_frame) == sum(OFFICIAL_FRAMES["train"].values()) and bool(
        (per_frame.sum(axis=1) == FRAME_PIXELS).all()
    )


def describe_differences(per_frame: NDArray[np.int64]) -> list[str]:
    """Describe each label id whose count differs from the official one.

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
    """Describe the missing frames of each split that is most of an official one, but not all.

    Args:
        frames: keys, `train/aachen/aachen_000000_000019`; those of other splits are ignored.
    """
    counts = Counter(tuple(key.split("/")[:2]) for key in frames)
    messages = []
    for split, cities in OFFICIAL_FRAMES.items():
        present = {city: count for (name, city), count in counts.items() if name == split}
        official = sum(cities.values())
        fewer = {
            city: present.get(city, 0) for city in cities if present.get(city, 0) < cities[city]
        }
        missing = sum(cities[city] - fewer[city] for city in fewer)
        # With half of the frames missing, or with other cities, the subset is deliberate.
        if 0 < missing < official / 2 and present.keys() <= cities.keys():
            details = ", ".join(f"{city} has {fewer[city]} of {cities[city]}" for city in fewer)
            messages.append(
                f"{missing} of the {official} official {split} frames"
                f" {'is' if missing == 1 else 'are'} missing: {details}. Unless you removed them"
                " yourself, download both packages again; scores are not comparable with"
                " published ones"
            )
    return messages


def compare_counts(
    frames: Sequence[str], per_frame: NDArray[np.int64]
) -> Iterator[tuple[bool, str]]:
    """Compare with the official set; yield pairs of whether it agrees and a sentence.

    A set far from the official one yields nothing.

    Args:
        frames: n keys, with their official splits.
        per_frame: (n, 34) pixels of every label id.
    """
    for message in find_missing_frames(frames):
        yield False, message
    training = per_frame[[key.startswith("train/") for key in frames]]
    if not has_official_size(training):
        return
    differences = describe_differences(training)
    if not differences:
        yield True, f"the counts are the official ones: all {len(OFFICIAL_PIXELS)} agree"
        return
    yield (
        False,
        f"{len(differences)} of {len(OFFICIAL_PIXELS)} counts differ from the official training"
        f" set, which has as many frames of this size: {'; '.join(differences)}. Unless you changed"
        " the labels yourself, download gtFine_trainvaltest.zip again; scores are not comparable"
        " with published ones",
    )
