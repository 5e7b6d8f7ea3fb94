"""Remap: pair every photograph with its label map and turn label ids into the 19 train ids."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.archive import (
    IMAGE,
    LABEL_IDS,
    TRAIN_IDS,
    Archive,
    Member,
    ZipWriter,
    member_name,
    writing,
)
from pipeline.section import Section
from segformer.atomic import write_text
from segformer.cityscapes import LABELS, train_id_table

_SPLITS = ("train", "val")
_SPLIT_OF: dict[str, Callable[[str], str]] = {"official": lambda key: key.split("/")[0]}
"""By rule: from a frame's key to the split it is used in."""
_SHOWN = 20
"""So many problems are listed in full; the rest is counted."""


class Remap(Section):
    """How frames are paired and divided."""

    split: Literal["official"]
    """`official`: train and val as the data set divides them."""


@dataclass
class _Problems:
    """What is wrong with the set, gathered so that all of it is told at once."""

    found: list[str] = field(default_factory=list)

    def raise_if_any(self) -> None:
        if not self.found:
            return
        more = len(self.found) - _SHOWN
        lines = self.found[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        count = f"{len(self.found)} problem{'s' if len(self.found) > 1 else ''}"
        raise ValueError(
            "\n".join([f"remap: {count} in the raw data; mend them and repeat", *lines])
        )


def run(
    params: Remap,
    *,
    images: Path,
    ground_truth: Path,
    out: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Write `labels.zip`, `frames.csv` and `pixel_counts.csv` into `out`.

    Args:
        params: the section `remap`.
        images: the leftImg8bit zip.
        ground_truth: the gtFine zip.
        out: where to write.
        progress: called with frames done and frames in all.

    Raises:
        ValueError: with every missing partner, unreadable or odd picture and unknown id of the set.
    """
    problems = _Problems()
    with Archive(images) as photographs, Archive(ground_truth) as label_maps:
        pairs = _pair(photographs, label_maps, problems)
        sizes: dict[str, tuple[int, int]] = {}
        counts = []
        with writing(out / "labels.zip") as train_ids:
            for done, (key, (photograph, label_map)) in enumerate(pairs.items(), start=1):
                try:
                    size = photographs.image_size(photograph.name)
                    label_ids = label_maps.open_labels(label_map.name)
                except ValueError as problem:
                    problems.found.append(str(problem))
                    continue
                problems.found += _odd(label_map, label_ids, size)
                sizes[key] = size
                counts.append(np.bincount(label_ids.ravel(), minlength=256)[: len(LABELS)])
                _write(train_ids, key, label_ids)
                progress(done, len(pairs))
            problems.found += _unlike_sizes(sizes)
            problems.raise_if_any()
    frames = _frames(sizes, _SPLIT_OF[params.split])
    pixels = pd.DataFrame(counts, columns=[f"id_{label.label_id}" for label in LABELS])
    pixels.insert(0, "frame", frames["frame"])
    write_text(out / "frames.csv", frames.to_csv(index=False))
    write_text(out / "pixel_counts.csv", pixels.to_csv(index=False))


def _pair(
    photographs: Archive, label_maps: Archive, problems: _Problems
) -> dict[str, tuple[Member, Member]]:
    """Photograph and label map of every training and validation frame, by key, in key order."""
    left, right = (
        {key: member for key, member in found.items() if key.split("/")[0] in _SPLITS}
        for found in (photographs.members(IMAGE), label_maps.members(LABEL_IDS))
    )
    for key in sorted(left.keys() - right.keys()):
        missing = member_name(key, LABEL_IDS)
        problems.found.append(f"{left[key].name} has no label: {missing} is missing")
    for key in sorted(right.keys() - left.keys()):
        missing = member_name(key, IMAGE)
        problems.found.append(f"{right[key].name} has no photograph: {missing} is missing")
    pairs = {key: (left[key], right[key]) for key in sorted(left.keys() & right.keys())}
    for split in _SPLITS:
        if not any(key.startswith(f"{split}/") for key in pairs):
            problems.found.append(f"no frame of the split {split!r} has both photograph and label")
    return pairs


def _frames(sizes: dict[str, tuple[int, int]], split_of: Callable[[str], str]) -> pd.DataFrame:
    rows = [[key, split_of(key), key.split("/")[1], *size] for key, size in sizes.items()]
    return pd.DataFrame(rows, columns=["frame", "split", "city", "rows", "columns"])


def _odd(member: Member, label_ids: NDArray[np.uint8], size: tuple[int, int]) -> list[str]:
    """What is wrong with one label map: its size, and ids that no label has."""
    found = []
    if label_ids.shape != size:
        found.append(
            f"{member.name} is {_by(label_ids.shape)} pixels, but its photograph is {_by(size)}"
        )
    values, counts = np.unique(label_ids[label_ids >= len(LABELS)], return_counts=True)
    for value, count in zip(values, counts, strict=True):
        found.append(
            f"{member.name} has id {value} at {count} pixels; label ids go from 0 to"
            f" {len(LABELS) - 1}"
        )
    return found


def _unlike_sizes(sizes: dict[str, tuple[int, int]]) -> list[str]:
    """Every frame whose size is not the commonest one."""
    if not sizes:
        return []
    common, _ = Counter(sizes.values()).most_common(1)[0]
    return [
        f"{member_name(key, IMAGE)} is {_by(size)} pixels, but most frames are {_by(common)}"
        for key, size in sizes.items()
        if size != common
    ]


def _write(archive: ZipWriter, key: str, label_ids: NDArray[np.uint8]) -> None:
    archive.add_labels(member_name(key, TRAIN_IDS), train_id_table()[label_ids])


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
