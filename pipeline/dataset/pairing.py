"""Pairs photographs with label maps by frame key."""

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
"""Frames that are broken in the official package; the site recommends deleting them.

The photograph is black, with one channel, and the label map has a single value.
"""


@dataclass(frozen=True)
class LabeledSet:
    """Photographs and their label maps.

    Attributes:
        photographs: the package leftImg8bit.
        label_maps: the package gtFine or gtCoarse.
        kind: of the label maps: `gtFine_labelIds`, `gtCoarse_labelIds`.
        splits: the official splits to read: `train`, `val`, `train_extra`.
    """

    photographs: Archive
    label_maps: Archive
    kind: str
    splits: tuple[str, ...]


def fine_set(photographs: Archive, label_maps: Archive) -> LabeledSet:
    """The finely labeled frames without those of `test`, whose labels are not published."""
    return LabeledSet(photographs, label_maps, LABEL_IDS, ("train", "val"))


def coarse_set(photographs: Archive, label_maps: Archive) -> LabeledSet:
    """The coarsely labeled frames without those that have fine labels too."""
    return LabeledSet(photographs, label_maps, COARSE_LABEL_IDS, (TRAIN_EXTRA,))


def pair_frames(labeled_set: LabeledSet, problems: list[str]) -> dict[str, tuple[Member, Member]]:
    """Pair the photograph and label map of each frame, by key, in key order.

    Frames that are known to be broken are left out.

    Args:
        labeled_set: the packages.
        problems: a list to which missing files, wrong names and splits without pairs are added.
    """
    photographs, label_maps = labeled_set.photographs, labeled_set.label_maps
    kind, splits = labeled_set.kind, labeled_set.splits
    images, labels = (
        {
            key: member
            for key, member in members.items()
            if key.split("/")[0] in splits and key not in BROKEN_FRAMES
        }
        for members in (photographs.members(IMAGE), label_maps.members(kind))
    )
    misnamed = [
        *find_misnamed(photographs.names(), IMAGE),
        *find_misnamed(label_maps.names(), kind),
    ]
    problems += [f"{name} does not follow the naming scheme {_EXAMPLE_NAME}" for name in misnamed]
    for members, partners, noun, missing_kind in (
        (images, labels, "label", kind),
        (labels, images, "photograph", IMAGE),
    ):
        problems += [
            f"{members[key].name} has no {noun}: {member_name(key, missing_kind)} is missing"
            for key in sorted(members.keys() - partners.keys())
        ]
    pairs = {key: (images[key], labels[key]) for key in sorted(images.keys() & labels.keys())}
    problems += [
        f"no frame of the split {split!r} has both photograph and label"
        for split in splits
        if not any(key.startswith(f"{split}/") for key in pairs)
    ]
    return pairs
