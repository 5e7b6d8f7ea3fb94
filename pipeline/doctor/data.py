"""Checks the data: its source, the zips, the tables of `remap`, and a sample of frames."""

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
"""Frames of each split to decode: the first, one in the middle, the last."""
_BAR_WIDTH = 30  # columns of the longest bar


def check_source(path: Path) -> Iterator[Finding]:
    """Compare the raw data with the folder that it was copied from.

    Args:
        path: source.json of the last download.
    """
    try:
        changes = find_source_changes(path)
    except ValueError as error:
        yield Finding("raw data", False, str(error))
        return
    for change in changes:
        remedy = "update with `dvc repro --force download` or `segformer retrain`"
        yield Finding("raw data", False, f"{change}; {remedy}")
    if not changes:
        yield Finding("raw data", True, "the raw data matches its source")


def check_packages(folder: Path, *, train_extra: bool) -> Iterator[Finding]:
    """Open the zips and pair images with labels, without decoding them.

    Args:
        folder: output folder of `download`.
        train_extra: whether the coarsely labeled frames are used too.
    """
    packages = select_packages(train_extra=train_extra)
    missing = [package for package in packages if not package.path_in(folder).exists()]
    for package in missing:
        remedy = "`dvc checkout` or `dvc repro --force download` restores it"
        yield Finding("raw data", False, f"{package.path_in(folder)} is missing: {remedy}")
    if missing:
        return
    problems: list[str] = []
    try:
        with ExitStack() as stack:
            sets = _open_sets(folder, stack, train_extra=train_extra)
            keys = [key for labeled in sets for key in labeled.photographs.members(IMAGE)]
            for labeled in sets:
                pair_frames(labeled, problems)
    except ValueError as error:
        yield Finding("raw data", False, f"{error}; `dvc repro --force download`")
        return
    splits = Counter(key.split("/")[0] for key in keys)
    counts = ", ".join(f"{split} {number:,}" for split, number in splits.items())
    yield Finding("raw data", True, f"images: {counts or 'none'}")
    if problems:
        count = format_count(len(problems), "problem")
        message = f"{count} in the pairs of images and labels (first: {problems[0]})"
        yield Finding("raw data", False, f"{message}: `dvc repro remap` lists all")


def _open_sets(folder: Path, stack: ExitStack, *, train_extra: bool) -> list[LabeledSet]:
    """Open the finely labeled set and, if it is used, the coarsely labeled set."""
    sets = [(fine_set, (IMAGES, FINE_LABELS)), (coarse_set, (EXTRA_IMAGES, COARSE_LABELS))]
    return [
        make_set(*(stack.enter_context(Archive(package.path_in(folder))) for package in packages))
        for make_set, packages in sets[: 1 + train_extra]
    ]


def check_tables(folder: Path) -> Iterator[Finding]:
    """Check the tables of `remap`: frames per split, frame sizes, label values.

    Args:
        folder: folder of frames.csv and pixel_counts.csv.
    """
    try:
        table = _load_table(folder)
    except ValueError as error:
        yield Finding("frames", False, str(error))
        return
    for split, rows in table.groupby("split"):
        sizes = Counter(zip(rows["rows"].tolist(), rows["columns"].tolist(), strict=True))
        pixels = ", ".join(f"{height} x {width}" for height, width in sizes)
        num_cities = rows["city"].nunique()
        cities = f"{num_cities} {'city' if num_cities == 1 else 'cities'}"
        message = f"{split}: {format_count(len(rows), 'frame')} from {cities}, {pixels} pixels"
        yield Finding("frames", True, message)
    yield from _check_values(table)


def _check_values(table: pd.DataFrame) -> Iterator[Finding]:
    pixels = table[ID_COLUMNS].to_numpy(np.int64)
    wrong = table.loc[pixels.sum(axis=1) != table["rows"] * table["columns"], "frame"].tolist()
    if wrong:
        count = format_count(len(wrong), "frame")
        message = f"pixel counts of {count} do not sum to the frame size (first: {wrong[0]})"
        yield Finding("labels", False, f"{message}: `dvc repro --force remap`")
    training = pixels[table["split"].isin(TRAINING_SPLITS)].sum(axis=0)
    absent = [label.name for label in CLASSES if not training[label.label_id]]
    if absent:
        message = f"absent from the training frames: {', '.join(absent)}; no loss can learn them"
        yield Finding("labels", True, message)
    for verdict in official_counts.compare_counts(table["frame"].tolist(), pixels):
        yield Finding("labels", *verdict)
    total = pixels.sum(axis=0)
    message = (
        f"label values of {format_count(len(table), 'frame')}, share of pixels, bars on a log scale"
    )
    yield Finding("labels", True, message, format_histogram(total))


def format_histogram(pixels: NDArray[np.int64]) -> tuple[str, ...]:
    """Return a line per label id that occurs: id, name, share, and a bar on a log scale.

    Args:
        pixels: (34,) pixel counts by label id.
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
    """Decode a few frames of each split and compare them with the outputs of `remap`.

    Args:
        raw: output folder of `download`.
        remapped: output folder of `remap`.
    """
    table = _load_table(remapped)
    pixels = table.set_index("frame")[ID_COLUMNS]
    has_extra = TRAIN_EXTRA in set(table["split"])
    sample = {
        key: split == TRAIN_EXTRA
        for split, rows in table.groupby("split")
        for key in _sample_keys(rows["frame"].tolist())
    }
    problems = []
    try:
        with ExitStack() as stack:
            sets = _open_sets(raw, stack, train_extra=has_extra)
            members = [labeled.label_maps.members(labeled.kind) for labeled in sets]
            train_ids = stack.enter_context(Archive(remapped / "labels.zip"))
            for key, is_extra in sample.items():
                if key not in members[is_extra]:
                    problems.append(f"{key} has no label in {sets[is_extra].label_maps.path}")
                    continue
                messages = _compare_frame(
                    sets[is_extra].photographs.open_photograph(key),
                    sets[is_extra].label_maps.open_labels(members[is_extra][key].name),
                    train_ids.open_labels(train_ids_name(key)),
                    pixels.loc[key].to_numpy(np.int64),
                )
                problems += [f"{key}: {message}" for message in messages]
    except ValueError as error:
        problems.append(str(error))
    if problems:
        remedy = "`dvc repro`; if everything is up to date, `dvc repro --force download`"
        return Finding("sample", False, f"{'; '.join(problems)}: {remedy}")
    return Finding(
        "sample",
        True,
        f"{format_count(len(sample), 'frame')} decoded: image, label and remapped label agree in"
        " size, values and counts",
    )


def _load_table(folder: Path) -> pd.DataFrame:
    return join_tables(folder / "frames.csv", folder / "pixel_counts.csv")


def _sample_keys(keys: Sequence[str]) -> list[str]:
    """Return the first key, one in the middle and the last."""
    indices = np.linspace(0, len(keys) - 1, min(_SAMPLE_SIZE, len(keys))).round().astype(int)
    return [keys[index] for index in indices]


def _compare_frame(
    photograph: NDArray[np.uint8],
    label_map: NDArray[np.uint8],
    remapped: NDArray[np.uint8],
    expected: NDArray[np.int64],
) -> Iterator[str]:
    """Yield a message for each problem of one frame.

    Args:
        photograph: (h, w, 3) uint8.
        label_map: (h, w) uint8, label ids.
        remapped: (h, w) uint8, train ids.
        expected: (34,) pixel counts by label id, from `remap`.
    """
    if photograph.shape[:2] != label_map.shape:
        yield f"the size of the image is {photograph.shape[:2]}, of its label {label_map.shape}"
    if photograph.min() == photograph.max():
        yield f"every pixel of the image is {photograph.min()}"
    pixels = np.bincount(label_map.ravel(), minlength=len(LABELS))
    if len(pixels) > len(LABELS):
        yield f"the label has the value {len(pixels) - 1}; valid are 0 to {len(LABELS) - 1}"
    elif (pixels != expected).any():
        yield "the label differs from the label that remap counted"
    if not np.array_equal(train_id_table()[label_map], remapped):
        yield "the remapped label does not match this label"
