"""What the doctor finds out about the data: where it is from, what is in it, some frames deeply."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset import official_counts
from pipeline.dataset.archive import IMAGE, Archive, train_ids_name
from pipeline.dataset.packages import COARSE_LABELS, EXTRA_IMAGES, IMAGES, select_packages
from pipeline.dataset.packages import LABELS as FINE_LABELS
from pipeline.dataset.pairing import LabeledSet, coarse_set, fine_set, pair_frames
from pipeline.dataset.splits import TRAINING_SPLITS
from pipeline.dataset.tables import ID_COLUMNS, join_tables
from pipeline.doctor.finding import Finding
from pipeline.download.source_record import find_source_changes
from pipeline.formatting import format_count
from segformer.cityscapes import CLASSES, LABELS, TRAIN_EXTRA, train_id_table

_SAMPLE_SIZE = 3
"""Frames of every split that are decoded: the first, one in the middle, the last."""
_BAR_WIDTH = 30  # columns, of the longest bar


def check_source(path: Path) -> Iterator[Finding]:
    """Compare the raw data with the folder it was taken from.

    Args:
        path: source.json of the last download.
    """
    try:
        changes = find_source_changes(path)
    except ValueError as mistake:
        yield Finding("raw data", False, str(mistake))
        return
    for change in changes:
        remedy = "take it in with `dvc repro --force download` or `retrain`"
        yield Finding("raw data", False, f"{change}; {remedy}")
    if not changes:
        yield Finding("raw data", True, "the raw data is what its source holds")


def check_packages(folder: Path, *, train_extra: bool) -> Iterator[Finding]:
    """Open the zips and pair what is in them, without reading a picture.

    Args:
        folder: of `download`.
        train_extra: whether the coarsely labelled frames are used too.
    """
    missing = [each for each in select_packages(train_extra) if not each.path_in(folder).exists()]
    for package in missing:
        remedy = "`dvc checkout` or `dvc repro --force download` brings it"
        yield Finding("raw data", False, f"{package.path_in(folder)} is missing: {remedy}")
    if missing:
        return
    problems: list[str] = []
    try:
        with ExitStack() as opened:
            sets = _open_sets(folder, opened, train_extra=train_extra)
            keys = [key for each in sets for key in each.photographs.members(IMAGE)]
            for each in sets:
                pair_frames(each, problems)
    except ValueError as mistake:
        yield Finding("raw data", False, f"{mistake}; `dvc repro --force download`")
        return
    splits = Counter(key.split("/")[0] for key in keys)
    told = ", ".join(f"{split} {number:,}" for split, number in splits.items())
    yield Finding("raw data", True, f"photographs: {told or 'none'}")
    if problems:
        what = format_count(len(problems), "problem")
        sentence = f"{what} where photographs and labels are paired (first: {problems[0]})"
        yield Finding("raw data", False, f"{sentence}: remap lists all")


def _open_sets(folder: Path, stack: ExitStack, *, train_extra: bool) -> list[LabeledSet]:
    """The finely labelled frames and, if they are used, the coarsely labelled ones."""
    chosen = [(fine_set, (IMAGES, FINE_LABELS)), (coarse_set, (EXTRA_IMAGES, COARSE_LABELS))]
    return [
        of(*(stack.enter_context(Archive(package.path_in(folder))) for package in packages))
        for of, packages in chosen[: 1 + train_extra]
    ]


def check_tables(folder: Path) -> Iterator[Finding]:
    """Look through the tables of `remap`: frames per split, sizes, label values.

    Args:
        folder: with frames.csv and pixel_counts.csv.
    """
    try:
        table = _load_table(folder)
    except ValueError as mistake:
        yield Finding("frames", False, str(mistake))
        return
    for split, rows in table.groupby("split"):
        sizes = Counter(zip(rows["rows"].tolist(), rows["columns"].tolist(), strict=True))
        told = ", ".join(f"{height} x {width}" for height, width in sizes)
        cities = rows["city"].nunique()
        places = f"{cities} {'city' if cities == 1 else 'cities'}"
        sentence = f"{split}: {format_count(len(rows), 'frame')} from {places}, {told} pixels"
        yield Finding("frames", True, sentence)
    yield from _check_values(table)


def _check_values(table: pd.DataFrame) -> Iterator[Finding]:
    pixels = table[ID_COLUMNS].to_numpy(np.int64)
    wrong = table.loc[pixels.sum(axis=1) != table["rows"] * table["columns"], "frame"].tolist()
    if wrong:
        told = f"{format_count(len(wrong), 'frame')} counted with other pixels than they have"
        yield Finding("labels", False, f"{told} (first: {wrong[0]}): `dvc repro --force remap`")
    training = pixels[table["split"].isin(TRAINING_SPLITS)].sum(axis=0)
    absent = [label.name for label in CLASSES if not training[label.label_id]]
    if absent:
        sentence = f"never in training: {', '.join(absent)}; no loss can learn them"
        yield Finding("labels", True, sentence)
    for verdict in official_counts.compare_counts(table["frame"].tolist(), pixels):
        yield Finding("labels", *verdict)
    total = pixels.sum(axis=0)
    sentence = (
        f"label values of {format_count(len(table), 'frame')}, share of pixels, bars on a log scale"
    )
    yield Finding("labels", True, sentence, format_histogram(total))


def format_histogram(pixels: NDArray[np.int64]) -> tuple[str, ...]:
    """A line per label id that occurs: id, name, share, and a bar on a log scale.

    Args:
        pixels: (34,) by label id.
    """
    present = pixels[pixels > 0]
    if not present.size:
        return ()
    low, high = math.log10(present.min()) - 0.3, math.log10(present.max())
    return tuple(
        f"{label.label_id:>2} {label.name:<20} {100 * number / pixels.sum():>7.3f} %  "
        + "#" * max(round(_BAR_WIDTH * (math.log10(number) - low) / (high - low)), 1)
        for label, number in zip(LABELS, pixels.tolist(), strict=True)
        if number
    )


def check_sample_frames(raw: Path, remapped: Path) -> Finding:
    """Decode a few frames of every split and compare them with remap's.

    Args:
        raw: the folder of `download`.
        remapped: the folder of `remap`.
    """
    table = _load_table(remapped)
    pixels = table.set_index("frame")[ID_COLUMNS]
    has_extra = TRAIN_EXTRA in set(table["split"])
    chosen = {
        key: split == TRAIN_EXTRA
        for split, rows in table.groupby("split")
        for key in _sample_keys(rows["frame"].tolist())
    }
    trouble = []
    try:
        with ExitStack() as opened:
            sets = _open_sets(raw, opened, train_extra=has_extra)
            members = [each.label_maps.members(each.kind) for each in sets]
            train_ids = opened.enter_context(Archive(remapped / "labels.zip"))
            for key, is_extra in chosen.items():
                if key not in members[is_extra]:
                    trouble.append(f"{key} has no label in {sets[is_extra].label_maps.path}")
                    continue
                found = _compare_frame(
                    sets[is_extra].photographs.open_photograph(key),
                    sets[is_extra].label_maps.open_labels(members[is_extra][key].name),
                    train_ids.open_labels(train_ids_name(key)),
                    pixels.loc[key].to_numpy(np.int64),
                )
                trouble += [f"{key}: {sentence}" for sentence in found]
    except ValueError as mistake:
        trouble.append(str(mistake))
    if trouble:
        remedy = "`dvc repro`; if that finds nothing to do, `dvc repro --force download`"
        return Finding("deep look", False, f"{'; '.join(trouble)}: {remedy}")
    return Finding(
        "deep look",
        True,
        f"{format_count(len(chosen), 'frame')} decoded: photograph, label and remapped label agree in"
        " size, values and counts",
    )


def _load_table(folder: Path) -> pd.DataFrame:
    return join_tables(folder / "frames.csv", folder / "pixel_counts.csv")


def _sample_keys(keys: Sequence[str]) -> list[str]:
    """The first, one in the middle, the last."""
    places = np.linspace(0, len(keys) - 1, min(_SAMPLE_SIZE, len(keys))).round().astype(int)
    return [keys[place] for place in places]


def _compare_frame(
    photograph: NDArray[np.uint8],
    label_map: NDArray[np.uint8],
    remapped: NDArray[np.uint8],
    expected: NDArray[np.int64],
) -> Iterator[str]:
    """What is wrong with one frame, a sentence each.

    Args:
        photograph: (h, w, 3).
        label_map: (h, w) label ids.
        remapped: (h, w) train ids.
        expected: (34,) pixels by label id.
    """
    if photograph.shape[:2] != label_map.shape:
        yield f"the photograph is {photograph.shape[:2]}, its label {label_map.shape}"
    if photograph.min() == photograph.max():
        yield f"every pixel of the photograph is {photograph.min()}"
    pixels = np.bincount(label_map.ravel(), minlength=len(LABELS))
    if len(pixels) > len(LABELS):
        yield f"the label has the value {len(pixels) - 1}, and only 0 to {len(LABELS) - 1} exist"
    elif (pixels != expected).any():
        yield "the label is not the one that remap counted"
    if not np.array_equal(train_id_table()[label_map], remapped):
        yield "the remapped label is not made from this one"
