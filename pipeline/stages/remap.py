"""Remap: pair every photograph with its label map and turn label ids into the 19 train ids."""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path

import pandas as pd

from pipeline.dataset.archive import IMAGE, Archive, Member, member_name, train_ids_name, write_zip
from pipeline.dataset.packages import COARSE_LABELS, EXTRA_IMAGES
from pipeline.dataset.pairing import BROKEN_FRAMES, LabeledSet, coarse_set, fine_set, pair_frames
from pipeline.dataset.splits import (
    TEST,
    TRAIN,
    VAL,
    assign_splits,
    parse_city,
    shared_cities,
    split_id,
)
from pipeline.dataset.tables import FRAME_COLUMNS, ID_COLUMNS
from pipeline.dataset.train_ids import FrameRemapper, RemappedFrame, format_size
from pipeline.disk import explain_disk_full, require_space
from pipeline.errors import raise_problems
from pipeline.parallel import ordered_map
from pipeline.params.remap import Remap
from segformer.atomic import replacing
from segformer.cityscapes import TRAIN_EXTRA

FramePairs = dict[str, tuple[Member, Member]]

_SIZE_FACTOR = 1.25
"""Bytes of a map of train ids for a byte of its map of label ids; 0.6 to 1.2 were measured."""


def remap_labels(
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
    frames.csv says train, train_extra, val or test: pipeline.dataset.splits explains.

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
    with explain_disk_full(out, label="remap"), ExitStack() as whole:
        problems: list[str] = []
        packages = [_open_fine(images, ground_truth, whole)]
        if params.train_extra:
            packages.append(_open_coarse(extra, whole))
        pairs = [pair_frames(each, problems) for each in packages]
        splits = _assign_splits(chain(*pairs), params, problems)
        _require_label_space(packages, pairs, out)
        frames, pixels = (
            whole.enter_context(replacing(out / name))
            for name in ("frames.csv", "pixel_counts.csv")
        )
        train_ids = whole.enter_context(write_zip(out / "labels.zip"))
        remapped: dict[str, RemappedFrame] = {}
        results = whole.enter_context(closing(_remap_frames(packages, pairs, processes)))
        for done, (key, result) in enumerate(results, start=1):
            if isinstance(result, list):
                problems += result
            else:
                train_ids.add(train_ids_name(key), result.png)
                remapped[key] = RemappedFrame(result.size, result.counts, png=b"")
            progress(done, sum(map(len, pairs)))
        problems += _find_unusual_sizes({key: one.size for key, one in remapped.items()})
        raise_problems(problems, "remap", "in the raw data; mend them and repeat")
        _write_tables(remapped, splits, frames=frames, pixels=pixels)
        there = {key for each in packages for key in each.photographs.members(IMAGE)}
    name = split_id(params.split, params.held_out, params.seed, train_extra=params.train_extra)
    return _summarize(name, splits, there - splits.keys())


def _open_fine(images: Path, ground_truth: Path, stack: ExitStack) -> LabeledSet:
    photographs, label_maps = (stack.enter_context(Archive(one)) for one in (images, ground_truth))
    return fine_set(photographs, label_maps)


def _open_coarse(extra: Path | None, stack: ExitStack) -> LabeledSet:
    zips = [extra / package.name for package in (EXTRA_IMAGES, COARSE_LABELS)] if extra else []
    missing = [str(path) for path in zips if not path.exists()]
    if missing or not zips:
        raise ValueError(
            f"remap.train_extra: there is no {' and no '.join(missing) or 'folder for it'}: set"
            " download.train_extra to true as well, and repeat download"
        )
    photographs, label_maps = (stack.enter_context(Archive(path)) for path in zips)
    return coarse_set(photographs, label_maps)


def _require_label_space(
    labeled_sets: Sequence[LabeledSet], pairs: Sequence[FramePairs], out: Path
) -> None:
    label_ids = sum(
        each.label_maps.file_size(label_map.name)
        for each, found in zip(labeled_sets, pairs, strict=True)
        for _, label_map in found.values()
    )
    require_space(out, round(_SIZE_FACTOR * label_ids), label="remap")


def _remap_frames(
    labeled_sets: Sequence[LabeledSet], pairs: Sequence[FramePairs], processes: int | None
) -> Generator[tuple[str, RemappedFrame | list[str]]]:
    """What becomes of every frame, or what is wrong with it, by key and in order."""
    for each, found in zip(labeled_sets, pairs, strict=True):
        work = FrameRemapper(each.photographs, each.label_maps)
        with ordered_map(work, list(found.values()), processes) as results:
            yield from zip(found, results, strict=True)


def _assign_splits(keys: Iterable[str], params: Remap, problems: list[str]) -> dict[str, str]:
    try:
        return assign_splits(keys, params.split, held_out=params.held_out, seed=params.seed)
    except ValueError as problem:
        problems.append(str(problem))
        return {}


def _find_unusual_sizes(sizes: dict[str, tuple[int, int]]) -> list[str]:
    """Every frame whose size is not the commonest one."""
    if not sizes:
        return []
    common, _ = Counter(sizes.values()).most_common(1)[0]
    return [
        f"{member_name(key, IMAGE)} is {format_size(size)} pixels, but most frames are {format_size(common)}"
        for key, size in sizes.items()
        if size != common
    ]


def _write_tables(
    remapped: dict[str, RemappedFrame], splits: dict[str, str], *, frames: Path, pixels: Path
) -> None:
    rows = [[key, splits[key], parse_city(key), *one.size] for key, one in remapped.items()]
    table = pd.DataFrame(rows, columns=list(FRAME_COLUMNS))
    frames.write_text(table.to_csv(index=False), encoding="utf-8")
    counts = pd.DataFrame([one.counts for one in remapped.values()], columns=ID_COLUMNS)
    counts.insert(0, "frame", table["frame"])
    pixels.write_text(counts.to_csv(index=False), encoding="utf-8")


def _summarize(name: str, splits: dict[str, str], omitted_keys: set[str]) -> str:
    order = (TRAIN, TRAIN_EXTRA, VAL, TEST)
    lines = [f"remap: {_format_counts(splits.values(), order)} frames ({name})"]
    broken = sorted(BROKEN_FRAMES & omitted_keys)
    if broken:
        lines.append(f"left out: {', '.join(broken)}, known to be broken: its photograph is black")
    official = [key.split("/")[0] for key in omitted_keys if key not in BROKEN_FRAMES]
    if official:
        lines.append(
            f"left out: {_format_counts(official, sorted(set(official)))} frames, of which no fine labels"
            " are published"
        )
    shared = shared_cities(splits)
    if shared:
        lines.append(
            f"warning: {len(shared)} {'city has' if len(shared) == 1 else 'cities have'} frames in"
            f" both train and val (first: {shared[0]}); neighbouring frames look alike, so val"
            " flatters. With remap.split city it does not"
        )
    return "\n".join(lines)


def _format_counts(splits: Iterable[str], order: Iterable[str]) -> str:
    """`2975 train, 500 val`."""
    frames = Counter(splits)
    return ", ".join(f"{frames[split]} {split}" for split in order if frames[split])
