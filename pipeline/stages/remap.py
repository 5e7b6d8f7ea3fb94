"""Remap: pair every photograph with its label map and turn label ids into the 19 train ids."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Self

import pandas as pd
from pydantic import BeforeValidator, NonNegativeInt, model_validator

from pipeline.archive import (
    IMAGE,
    LABEL_IDS,
    TRAIN_IDS,
    Archive,
    Member,
    member_name,
    misnamed,
    writing,
)
from pipeline.label_maps import ToTrainIds, TrainIds, by
from pipeline.parallel import in_order
from pipeline.problems import refuse
from pipeline.section import Section
from pipeline.splits import (
    TEST,
    TRAIN,
    VAL,
    HeldOut,
    Rule,
    city_of,
    divide,
    neighbours,
    rule_name,
)
from segformer.atomic import replacing
from segformer.cityscapes import LABELS

_USED = ("train", "val")
"""Official splits that are remapped; of `test` the labels are withheld, and all void."""


def _share_or_cities(value: Any) -> Any:
    if isinstance(value, float) and 0 < value < 1:
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise ValueError("should be a share, over 0 and under 1, or a list of training cities")


class Remap(Section):
    """How frames are paired and divided."""

    split: Rule
    """`official`: train and val as the data set divides them; else pipeline.splits says how."""
    held_out: Annotated[HeldOut, BeforeValidator(_share_or_cities)]
    """Of the official train frames, to be watched during training; not used by `official`."""
    seed: NonNegativeInt
    """Which cities or frames make up the share."""

    @model_validator(mode="after")
    def _random_takes_a_share(self) -> Self:
        if self.split == "random" and not isinstance(self.held_out, float):
            raise ValueError("held_out names cities, but split random takes a share of the frames")
        return self

    @property
    def rule(self) -> str:
        """All that decides the division: a part of every protocol id."""
        return rule_name(self.split, self.held_out, self.seed)


def run(
    params: Remap,
    *,
    images: Path,
    ground_truth: Path,
    out: Path,
    progress: Callable[[int, int], None],
    processes: int | None = None,
) -> str:
    """Write `labels.zip`, `frames.csv` and `pixel_counts.csv` into `out`, all or none.

    The column `split` of frames.csv says train, val or test, as pipeline.splits explains.

    Args:
        params: the section `remap`.
        images: the leftImg8bit zip.
        ground_truth: the gtFine zip.
        out: where to write.
        progress: called with frames done and frames in all.
        processes: how many work; None: as in pipeline.parallel. They change nothing in the result.

    Returns:
        How many frames came into which split, what was left out, and a warning if there is cause.

    Raises:
        ValueError: with every missing partner, unreadable or odd picture and unknown id of the set.
    """
    with Archive(images) as photographs, Archive(ground_truth) as label_maps, ExitStack() as whole:
        problems: list[str] = []
        pairs = pair(photographs, label_maps, LABEL_IDS, _USED, problems)
        splits = _divide(pairs, params, problems)
        frames, pixels = (
            whole.enter_context(replacing(out / name))
            for name in ("frames.csv", "pixel_counts.csv")
        )
        train_ids = whole.enter_context(writing(out / "labels.zip"))
        remapped: dict[str, TrainIds] = {}
        work = ToTrainIds(photographs, label_maps)
        results = whole.enter_context(in_order(work, list(pairs.values()), processes))
        for done, (key, result) in enumerate(zip(pairs, results, strict=True), start=1):
            if isinstance(result, list):
                problems += result
            else:
                train_ids.add(member_name(key, TRAIN_IDS), result.png)
                remapped[key] = TrainIds(result.size, result.counts, png=b"")
            progress(done, len(pairs))
        problems += _unlike_sizes({key: one.size for key, one in remapped.items()})
        refuse(problems, "remap", "in the raw data; mend them and repeat")
        _write_tables(remapped, splits, frames=frames, pixels=pixels)
    return _told(params.rule, splits, photographs.members(IMAGE).keys() - pairs.keys())


def pair(
    photographs: Archive,
    label_maps: Archive,
    kind: str,
    splits: Collection[str],
    problems: list[str],
) -> dict[str, tuple[Member, Member]]:
    """Photograph and label map of every frame of some splits, by key, in key order.

    Args:
        photographs: of leftImg8bit.
        label_maps: of gtFine or gtCoarse.
        kind: of the label maps: `gtFine_labelIds`, `gtCoarse_labelIds`.
        splits: the official ones that are wanted: `train`, `val`, `train_extra`.
        problems: what is wrong is added here: missing partners, odd names, a split without pairs.
    """
    left, right = (
        {key: member for key, member in found.items() if key.split("/")[0] in splits}
        for found in (photographs.members(IMAGE), label_maps.members(kind))
    )
    odd = [*misnamed(photographs.names(), IMAGE), *misnamed(label_maps.names(), kind)]
    problems += [f"{name} is not named as frames are: {_EXAMPLE}" for name in odd]
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


_EXAMPLE = member_name("train/aachen/aachen_000000_000019", IMAGE)


def _divide(keys: Iterable[str], params: Remap, problems: list[str]) -> dict[str, str]:
    try:
        return divide(keys, params.split, held_out=params.held_out, seed=params.seed)
    except ValueError as problem:
        problems.append(str(problem))
        return {}


def _unlike_sizes(sizes: dict[str, tuple[int, int]]) -> list[str]:
    """Every frame whose size is not the commonest one."""
    if not sizes:
        return []
    common, _ = Counter(sizes.values()).most_common(1)[0]
    return [
        f"{member_name(key, IMAGE)} is {by(size)} pixels, but most frames are {by(common)}"
        for key, size in sizes.items()
        if size != common
    ]


def _write_tables(
    remapped: dict[str, TrainIds], splits: dict[str, str], *, frames: Path, pixels: Path
) -> None:
    rows = [[key, splits[key], city_of(key), *one.size] for key, one in remapped.items()]
    table = pd.DataFrame(rows, columns=["frame", "split", "city", "rows", "columns"])
    frames.write_text(table.to_csv(index=False), encoding="utf-8")
    ids = [f"id_{label.label_id}" for label in LABELS]
    counts = pd.DataFrame([one.counts for one in remapped.values()], columns=ids)
    counts.insert(0, "frame", table["frame"])
    pixels.write_text(counts.to_csv(index=False), encoding="utf-8")


def _told(rule: str, splits: dict[str, str], left_out: Collection[str]) -> str:
    lines = [f"remap: {_counted(splits.values(), (TRAIN, VAL, TEST))} frames ({rule})"]
    if left_out:
        official = [key.split("/")[0] for key in left_out]
        lines.append(
            f"left out: {_counted(official, sorted(set(official)))} frames, of which no fine labels"
            " are published"
        )
    shared = neighbours(splits)
    if shared:
        lines.append(
            f"warning: {len(shared)} {'city has' if len(shared) == 1 else 'cities have'} frames in"
            f" both train and val (first: {shared[0]}); neighbouring frames look alike, so val"
            " flatters. With remap.split city it does not"
        )
    return "\n".join(lines)


def _counted(splits: Iterable[str], order: Iterable[str]) -> str:
    """`2975 train, 500 val`."""
    frames = Counter(splits)
    return ", ".join(f"{frames[split]} {split}" for split in order if frames[split])
