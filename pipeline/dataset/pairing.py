"""Which photograph and which label map are one frame: by key, never by position."""

from dataclasses import dataclass

from pipeline.dataset.archive import (
    COARSE_LABEL_IDS,
    IMAGE,
    LABEL_IDS,
    Archive,
    Member,
    find_misnamed,
    member_name,
)
from segformer.cityscapes import TRAIN_EXTRA

_EXAMPLE_NAME = member_name("train/aachen/aachen_000000_000019", IMAGE)

BROKEN_FRAMES = frozenset({f"{TRAIN_EXTRA}/troisdorf/troisdorf_000000_000073"})
"""Frames that are broken in the official package, whose site advises to delete them.

The photograph is black, with one channel, and the label map is of one value.
"""


@dataclass(frozen=True)
class LabeledSet:
    """Photographs and the label maps that belong to them.

    Attributes:
        photographs: of leftImg8bit.
        label_maps: of gtFine or gtCoarse.
        kind: of the label maps: `gtFine_labelIds`, `gtCoarse_labelIds`.
        splits: the official ones that are wanted: `train`, `val`, `train_extra`.
    """

    photographs: Archive
    label_maps: Archive
    kind: str
    splits: tuple[str, ...]


def fine_set(photographs: Archive, label_maps: Archive) -> LabeledSet:
    """The finely labelled frames; those of `test` are left out: their labels are withheld."""
    return LabeledSet(photographs, label_maps, LABEL_IDS, ("train", "val"))


def coarse_set(photographs: Archive, label_maps: Archive) -> LabeledSet:
    """The coarsely labelled frames, but for those of which there are fine labels too."""
    return LabeledSet(photographs, label_maps, COARSE_LABEL_IDS, (TRAIN_EXTRA,))


def pair_frames(labeled_set: LabeledSet, problems: list[str]) -> dict[str, tuple[Member, Member]]:
    """Photograph and label map of every frame that is wanted, by key, in key order.

    Frames that are known to be broken are left out, whatever there is of them.

    Args:
        labeled_set: where to look.
        problems: what is wrong is added here: missing partners, odd names, a split without pairs.
    """
    photographs, label_maps = labeled_set.photographs, labeled_set.label_maps
    kind, splits = labeled_set.kind, labeled_set.splits
    left, right = (
        {
            key: member
            for key, member in found.items()
            if key.split("/")[0] in splits and key not in BROKEN_FRAMES
        }
        for found in (photographs.members(IMAGE), label_maps.members(kind))
    )
    odd = [*find_misnamed(photographs.names(), IMAGE), *find_misnamed(label_maps.names(), kind)]
    problems += [f"{name} is not named as frames are: {_EXAMPLE_NAME}" for name in odd]
    for one, others, lacks, missing in (
        (left, right, "label", kind),
        (right, left, "photograph", IMAGE),
    ):
        problems += [
            f"{one[key].name} has no {lacks}: {member_name(key, missing)} is missing"
            for key in sorted(one.keys() - others.keys())
        ]
    pairs = {key: (left[key], right[key]) for key in sorted(left.keys() & right.keys())}
    problems += [
        f"no frame of the split {split!r} has both photograph and label"
        for split in splits
        if not any(key.startswith(f"{split}/") for key in pairs)
    ]
    return pairs
