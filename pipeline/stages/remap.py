"""Remap: pair every photograph with its label map and turn label ids into the 19 train ids."""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Self

import pandas as pd
from pydantic import BeforeValidator, NonNegativeInt, model_validator

from pipeline.archive import (
    IMAGE,
    Archive,
    Member,
    member_name,
    train_ids_name,
    writing,
)
from pipeline.disk import demand_room, telling_if_full
from pipeline.frame_tables import FRAME_COLUMNS, ID_COLUMNS
from pipeline.label_maps import ToTrainIds, TrainIds, by
from pipeline.packages import COARSE_LABELS, EXTRA_IMAGES
from pipeline.pairing import KNOWN_BROKEN, Packages, coarse, fine, pair
from pipeline.parallel import in_order
from pipeline.problems import refuse
from pipeline.section import Section
from pipeline.splits import (
    TEST,
    TRAIN,
    TRAIN_EXTRA,
    VAL,
    HeldOut,
    Rule,
    city_of,
    divide,
    is_city,
    neighbours,
    rule_name,
)
from segformer.atomic import replacing

Pairs = dict[str, tuple[Member, Member]]

_ROOM = 1.25
"""Bytes of a map of train ids for a byte of its map of label ids; 0.6 to 1.2 were measured."""


def _share_or_cities(value: Any) -> Any:
    if isinstance(value, float) and 0 < value < 1:
        return value
    cities = value if isinstance(value, list | tuple) else ()
    if cities and all(isinstance(city, str) and is_city(city) for city in cities):
        return tuple(sorted(set(cities)))  # one division, one value
    raise ValueError("should be a share, over 0 and under 1, or a list of training cities")


class Remap(Section):
    """How frames are paired and divided."""

    split: Rule
    """`official`: train and val as the data set divides them; else pipeline.splits says how."""
    held_out: Annotated[HeldOut, BeforeValidator(_share_or_cities)]
    """Of the official train frames, to be watched during training; not used by `official`."""
    seed: NonNegativeInt
    """Which cities or frames make up the share."""
    train_extra: bool = False
    """Whether the coarsely labelled frames are trained on too; `download` has to bring them."""

    @model_validator(mode="after")
    def _random_takes_a_share(self) -> Self:
        if self.split == "random" and not isinstance(self.held_out, float):
            raise ValueError("held_out names cities, but split random takes a share of the frames")
        return self

    @property
    def rule(self) -> str:
        """All that decides what is trained on and watched: a part of every protocol id."""
        name = rule_name(self.split, self.held_out, self.seed)
        return f"{name}+{TRAIN_EXTRA}" if self.train_extra else name


def run(
    params: Remap,
    *,
    images: Path,
    ground_truth: Path,
    extra: Path | None = None,
    out: Path,
    progress: Callable[[int, int], None],
    processes: int | None = None,
) -> str:
    """Write `labels.zip`, `frames.csv` and `pixel_counts.csv` into `out`, each whole or not at all.

    They get their names one after the other once all are whole; what goes wrong before leaves what
    was there. Of photographs header and checksums are looked at, since their pixels would take more
    time than all the rest: one that yet cannot be decoded is found by `pack`. The column `split` of
    frames.csv says train, train_extra, val or test: pipeline.splits explains.

    Args:
        params: the section `remap`.
        images: the leftImg8bit zip.
        ground_truth: the gtFine zip.
        extra: the folder with the zips of `train_extra`, if they are asked for.
        out: where to write.
        progress: called with frames done and frames in all.
        processes: how many work; None: as in pipeline.parallel. They change nothing in the result.

    Returns:
        How many frames came into which split, what was left out, and a warning if there is cause.

    Raises:
        ValueError: with every missing partner, odd or damaged picture and unknown id of the set, up
            to a limit; if the disk is too full.
    """
    out.mkdir(parents=True, exist_ok=True)
    with telling_if_full(out, whose="remap"), ExitStack() as whole:
        problems: list[str] = []
        packages = [_fine(images, ground_truth, whole)]
        if params.train_extra:
            packages.append(_coarse(extra, whole))
        pairs = [pair(each, problems) for each in packages]
        splits = _divide(chain(*pairs), params, problems)
        _demand_room(packages, pairs, out)
        frames, pixels = (
            whole.enter_context(replacing(out / name))
            for name in ("frames.csv", "pixel_counts.csv")
        )
        train_ids = whole.enter_context(writing(out / "labels.zip"))
        remapped: dict[str, TrainIds] = {}
        results = whole.enter_context(closing(_results(packages, pairs, processes)))
        for done, (key, result) in enumerate(results, start=1):
            if isinstance(result, list):
                problems += result
            else:
                train_ids.add(train_ids_name(key), result.png)
                remapped[key] = TrainIds(result.size, result.counts, png=b"")
            progress(done, sum(map(len, pairs)))
        problems += _unlike_sizes({key: one.size for key, one in remapped.items()})
        refuse(problems, "remap", "in the raw data; mend them and repeat")
        _write_tables(remapped, splits, frames=frames, pixels=pixels)
        there = {key for each in packages for key in each.photographs.members(IMAGE)}
    return _told(params.rule, splits, there - splits.keys())


def _fine(images: Path, ground_truth: Path, whole: ExitStack) -> Packages:
    photographs, label_maps = (whole.enter_context(Archive(one)) for one in (images, ground_truth))
    return fine(photographs, label_maps)


def _coarse(extra: Path | None, whole: ExitStack) -> Packages:
    zips = [extra / package.name for package in (EXTRA_IMAGES, COARSE_LABELS)] if extra else []
    missing = [str(path) for path in zips if not path.exists()]
    if missing or not zips:
        raise ValueError(
            f"remap.train_extra: there is no {' and no '.join(missing) or 'folder for it'}: set"
            " download.train_extra to true as well, and repeat download"
        )
    photographs, label_maps = (whole.enter_context(Archive(path)) for path in zips)
    return coarse(photographs, label_maps)


def _demand_room(packages: Sequence[Packages], pairs: Sequence[Pairs], out: Path) -> None:
    label_ids = sum(
        each.label_maps.bytes_of(label_map.name)
        for each, found in zip(packages, pairs, strict=True)
        for _, label_map in found.values()
    )
    demand_room(out, round(_ROOM * label_ids), whose="remap")


def _results(
    packages: Sequence[Packages], pairs: Sequence[Pairs], processes: int | None
) -> Generator[tuple[str, TrainIds | list[str]]]:
    """What becomes of every frame, or what is wrong with it, by key and in order."""
    for each, found in zip(packages, pairs, strict=True):
        work = ToTrainIds(each.photographs, each.label_maps)
        with in_order(work, list(found.values()), processes) as results:
            yield from zip(found, results, strict=True)


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
    table = pd.DataFrame(rows, columns=list(FRAME_COLUMNS))
    frames.write_text(table.to_csv(index=False), encoding="utf-8")
    counts = pd.DataFrame([one.counts for one in remapped.values()], columns=ID_COLUMNS)
    counts.insert(0, "frame", table["frame"])
    pixels.write_text(counts.to_csv(index=False), encoding="utf-8")


def _told(rule: str, splits: dict[str, str], left_out: set[str]) -> str:
    order = (TRAIN, TRAIN_EXTRA, VAL, TEST)
    lines = [f"remap: {_counted(splits.values(), order)} frames ({rule})"]
    broken = sorted(KNOWN_BROKEN & left_out)
    if broken:
        lines.append(f"left out: {', '.join(broken)}, known to be broken: its photograph is black")
    official = [key.split("/")[0] for key in left_out if key not in KNOWN_BROKEN]
    if official:
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
