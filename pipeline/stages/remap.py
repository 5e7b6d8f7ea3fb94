"""Pair every photograph with its label map, and convert label ids to the 19 train ids."""

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
"""Upper bound of the size of a train-id map over that of its label-id map; measured: 0.6 to 1.2."""


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

    The files are renamed to their names once all are complete; an error before that keeps the old
    files. Of photographs only header and checksums are checked, since decoding them would take more
    time than everything else; `pack` finds those that cannot be decoded. The column `split` of
    frames.csv is train, train_extra, val or test, see pipeline.dataset.splits.

    Args:
        params: the section `remap`.
        images: the leftImg8bit zip.
        ground_truth: the gtFine zip.
        extra: the folder with the zips of `train_extra`, if they are requested.
        out: where to write.
        progress: called with frames done and frames in all.
        processes: number of worker processes, without effect on the result; None: chosen as in
            pipeline.parallel.ordered_map.

    Returns:
        The number of frames per split, the frames left out, and warnings, as lines of text.

    Raises:
        ValueError: naming every frame without photograph or label, every damaged picture, unusual
            size and unknown id, up to a limit; or if the disk is too small.
    """
    out.mkdir(parents=True, exist_ok=True)
    with explain_disk_full(out, label="remap"), ExitStack() as stack:
        problems: list[str] = []
        labeled_sets = [_open_fine(images, ground_truth, stack)]
        if params.train_extra:
            labeled_sets.append(_open_coarse(extra, stack))
        pairs = [pair_frames(labeled_set, problems) for labeled_set in labeled_sets]
        splits = _assign_splits(chain(*pairs), params, problems)
        _require_label_space(labeled_sets, pairs, out)
        frames, pixels = (
            stack.enter_context(replacing(out / name))
            for name in ("frames.csv", "pixel_counts.csv")
        )
        train_ids = stack.enter_context(write_zip(out / "labels.zip"))
        remapped: dict[str, RemappedFrame] = {}
        results = stack.enter_context(closing(_remap_frames(labeled_sets, pairs, processes)))
        for done, (key, result) in enumerate(results, start=1):
            if isinstance(result, list):
                problems += result
            else:
                train_ids.add(train_ids_name(key), result.png)
                remapped[key] = RemappedFrame(result.size, result.counts, png=b"")
            progress(done, sum(map(len, pairs)))
        problems += _find_unusual_sizes({key: frame.size for key, frame in remapped.items()})
        raise_problems(problems, "remap", "in the raw data; fix them and run `dvc repro`")
        _write_tables(remapped, splits, frames=frames, pixels=pixels)
        all_keys = {key for each in labeled_sets for key in each.photographs.members(IMAGE)}
    name = split_id(params.split, params.held_out, params.seed, train_extra=params.train_extra)
    return _summarize(name, splits, all_keys - splits.keys())


def _open_fine(images: Path, ground_truth: Path, stack: ExitStack) -> LabeledSet:
    photographs, label_maps = (
        stack.enter_context(Archive(path)) for path in (images, ground_truth)
    )
    return fine_set(photographs, label_maps)


def _open_coarse(extra: Path | None, stack: ExitStack) -> LabeledSet:
    zips = [extra / package.name for package in (EXTRA_IMAGES, COARSE_LABELS)] if extra else []
    missing = [str(path) for path in zips if not path.exists()]
    if missing or not zips:
        raise ValueError(
            f"remap.train_extra: {' and '.join(missing) or 'the folder train_extra'} missing; set"
            " download.train_extra to true as well, and repeat download"
        )
    photographs, label_maps = (stack.enter_context(Archive(path)) for path in zips)
    return coarse_set(photographs, label_maps)


def _require_label_space(
    labeled_sets: Sequence[LabeledSet], pairs: Sequence[FramePairs], out: Path
) -> None:
    label_bytes = sum(
        each.label_maps.file_size(label_map.name)
        for each, frames in zip(labeled_sets, pairs, strict=True)
        for _, label_map in frames.values()
    )
    require_space(out, round(_SIZE_FACTOR * label_bytes), label="remap")


def _remap_frames(
    labeled_sets: Sequence[LabeledSet], pairs: Sequence[FramePairs], processes: int | None
) -> Generator[tuple[str, RemappedFrame | list[str]]]:
    """Give every remapped frame, or its problems, by key and in order."""
    for each, frames in zip(labeled_sets, pairs, strict=True):
        remapper = FrameRemapper(each.photographs, each.label_maps)
        with ordered_map(remapper, list(frames.values()), processes) as results:
            yield from zip(frames, results, strict=True)


def _assign_splits(keys: Iterable[str], params: Remap, problems: list[str]) -> dict[str, str]:
    try:
        return assign_splits(keys, params.split, held_out=params.held_out, seed=params.seed)
    except ValueError as error:
        problems.append(str(error))
        return {}


def _find_unusual_sizes(sizes: dict[str, tuple[int, int]]) -> list[str]:
    """List every frame that does not have the most common size."""
    if not sizes:
        return []
    common, _ = Counter(sizes.values()).most_common(1)[0]
    return [
        f"{member_name(key, IMAGE)} is {format_size(size)} pixels, but most frames are"
        f" {format_size(common)}"
        for key, size in sizes.items()
        if size != common
    ]


def _write_tables(
    remapped: dict[str, RemappedFrame], splits: dict[str, str], *, frames: Path, pixels: Path
) -> None:
    rows = [[key, splits[key], parse_city(key), *frame.size] for key, frame in remapped.items()]
    table = pd.DataFrame(rows, columns=list(FRAME_COLUMNS))
    frames.write_text(table.to_csv(index=False), encoding="utf-8")
    counts = pd.DataFrame([frame.counts for frame in remapped.values()], columns=ID_COLUMNS)
    counts.insert(0, "frame", table["frame"])
    pixels.write_text(counts.to_csv(index=False), encoding="utf-8")


def _summarize(name: str, splits: dict[str, str], omitted_keys: set[str]) -> str:
    order = (TRAIN, TRAIN_EXTRA, VAL, TEST)
    lines = [f"remap: {_format_counts(splits.values(), order)} frames ({name})"]
    broken = sorted(BROKEN_FRAMES & omitted_keys)
    if broken:
        lines.append(
            f"left out: {', '.join(broken)}, a known broken frame: the photograph is black"
        )
    unlabeled = [key.split("/")[0] for key in omitted_keys if key not in BROKEN_FRAMES]
    if unlabeled:
        counts = _format_counts(unlabeled, sorted(set(unlabeled)))
        lines.append(f"left out: {counts} frames, for which no fine labels are published")
    shared = shared_cities(splits)
    if shared:
        lines.append(
            f"warning: {len(shared)} {'city has' if len(shared) == 1 else 'cities have'} frames in"
            f" both train and val (first: {shared[0]}); neighboring frames look alike, so the"
            " validation score is too high; remap.split city avoids this"
        )
    return "\n".join(lines)


def _format_counts(splits: Iterable[str], order: Iterable[str]) -> str:
    """`2975 train, 500 val`."""
    frames = Counter(splits)
    return ", ".join(f"{frames[split]} {split}" for split in order if frames[split])
