"""What the doctor finds out about the data: where it is from, what is in it, some frames deeply."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import official_counts
from pipeline.archive import IMAGE, LABEL_IDS, TRAIN_IDS, Archive, member_name
from pipeline.finding import Finding
from pipeline.frame_tables import FRAME_COLUMNS, ID_COLUMNS
from pipeline.splits import TRAIN_EXTRA, TRAINED_ON
from pipeline.stages.download import IMAGE_ZIP, LABEL_ZIP, source_changes
from pipeline.wording import count
from segformer.cityscapes import CLASSES, LABELS, train_id_table

_DEEP = 3
"""Frames of every split that are decoded: the first, one in the middle, the last."""
_TEXT = {"frame", "split", "city"}
_BAR = 30  # columns, of the longest bar


def source(path: Path) -> Iterator[Finding]:
    """Compare the raw data with the folder it was taken from.

    Args:
        path: source.json of the last download.
    """
    try:
        changes = source_changes(path)
    except ValueError as mistake:
        yield Finding("raw data", False, str(mistake))
        return
    for change in changes:
        remedy = "take it in with `dvc repro --force download` or `retrain`"
        yield Finding("raw data", False, f"{change}; {remedy}")
    if not changes:
        yield Finding("raw data", True, "the raw data is what its source holds")


def packages(folder: Path) -> Iterator[Finding]:
    """Open both zips and pair what is in them, without reading a picture."""
    for name in (IMAGE_ZIP, LABEL_ZIP):
        if not (folder / name).exists():
            remedy = "`dvc checkout` or `dvc repro --force download` brings it"
            yield Finding("raw data", False, f"{folder / name} is missing: {remedy}")
            return
    try:
        with Archive(folder / IMAGE_ZIP) as images, Archive(folder / LABEL_ZIP) as labels:
            photographs, label_maps = images.members(IMAGE), labels.members(LABEL_IDS)
    except ValueError as mistake:
        yield Finding("raw data", False, f"{mistake}; `dvc repro --force download`")
        return
    splits = Counter(key.split("/")[0] for key in photographs)
    told = ", ".join(f"{split} {number:,}" for split, number in splits.items())
    yield Finding("raw data", True, f"photographs: {told or 'none'}")
    # The test frames' labels are withheld; whatever else has no partner is a mistake.
    alone = sorted(photographs.keys() ^ label_maps.keys())
    alone = [key for key in alone if key.split("/")[0] in ("train", "val")]
    if alone:
        what = count(len(alone), "frame")
        sentence = f"{what} without a photograph or a label (first: {alone[0]}): remap lists all"
        yield Finding("raw data", False, sentence)


def tables(folder: Path) -> Iterator[Finding]:
    """Look through the tables of `remap`: frames per split, sizes, label values.

    Args:
        folder: with frames.csv and pixel_counts.csv.
    """
    try:
        listed, counted = _tables(folder)
    except (OSError, ValueError) as mistake:
        sentence = f"a table of remap cannot be read ({mistake}): `dvc repro --force remap`"
        yield Finding("frames", False, sentence)
        return
    table = listed.merge(counted, on="frame", how="outer", indicator=True)
    alone = table.loc[table["_merge"] != "both", "frame"].tolist()
    twice = [key for one in (listed, counted) for key in one["frame"][one["frame"].duplicated()]]
    for names, what in ((alone, "in one table only"), (twice, "there twice")):
        if names:
            told = f"{count(len(names), 'frame')} {what} (first: {names[0]})"
            yield Finding("frames", False, f"{told}: `dvc repro --force remap`")
    if alone or twice:
        return
    for split, rows in table.groupby("split"):
        sizes = Counter(zip(rows["rows"].tolist(), rows["columns"].tolist(), strict=True))
        told = ", ".join(f"{height} x {width}" for height, width in sizes)
        cities = rows["city"].nunique()
        places = f"{cities} {'city' if cities == 1 else 'cities'}"
        sentence = f"{split}: {count(len(rows), 'frame')} from {places}, {told} pixels"
        yield Finding("frames", True, sentence)
    yield from _values(table)


def _values(table: pd.DataFrame) -> Iterator[Finding]:
    pixels = table[ID_COLUMNS].to_numpy(np.int64)
    wrong = table.loc[pixels.sum(axis=1) != table["rows"] * table["columns"], "frame"].tolist()
    if wrong:
        told = f"{count(len(wrong), 'frame')} counted with other pixels than they have"
        yield Finding("labels", False, f"{told} (first: {wrong[0]}): `dvc repro --force remap`")
    training = pixels[table["split"].isin(TRAINED_ON)].sum(axis=0)
    absent = [label.name for label in CLASSES if not training[label.label_id]]
    if absent:
        sentence = f"never in training: {', '.join(absent)}; no loss can learn them"
        yield Finding("labels", True, sentence)
    for verdict in official_counts.verdicts(table["frame"].tolist(), pixels):
        yield Finding("labels", *verdict)
    total = pixels.sum(axis=0)
    sentence = f"label values of {count(len(table), 'frame')}, share of pixels, bars on a log scale"
    yield Finding("labels", True, sentence, histogram(total))


def histogram(pixels: NDArray[np.int64]) -> tuple[str, ...]:
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
        + "#" * max(round(_BAR * (math.log10(number) - low) / (high - low)), 1)
        for label, number in zip(LABELS, pixels.tolist(), strict=True)
        if number
    )


def some_frames(raw: Path, remapped: Path) -> Finding:
    """Decode a few frames of every finely labelled split and compare them with remap's.

    Args:
        raw: the folder of `download`.
        remapped: the folder of `remap`.
    """
    listed, counted = _tables(remapped)
    listed = listed[listed["split"] != TRAIN_EXTRA]
    by_frame = counted.set_index("frame")[ID_COLUMNS]
    trouble, looked_at = [], 0
    try:
        with (
            Archive(raw / IMAGE_ZIP) as images,
            Archive(raw / LABEL_ZIP) as label_maps,
            Archive(remapped / "labels.zip") as train_ids,
        ):
            members = label_maps.members(LABEL_IDS)
            for _, rows in listed.groupby("split"):
                for key in _spread(rows["frame"].tolist()):
                    looked_at += 1
                    photograph = images.photograph(key)
                    label_map = label_maps.open_labels(members[key].name)
                    result = train_ids.open_labels(member_name(key, TRAIN_IDS))
                    expected = by_frame.loc[key].to_numpy(np.int64)
                    found = _compare(photograph, label_map, result, expected)
                    trouble += [f"{key}: {sentence}" for sentence in found]
    except KeyError as missing:
        trouble.append(f"{missing.args[0]} has no label in {LABEL_ZIP}")
    except ValueError as mistake:
        trouble.append(str(mistake))
    if trouble:
        remedy = "`dvc repro`; if that finds nothing to do, `dvc repro --force download`"
        return Finding("deep look", False, f"{'; '.join(trouble)}: {remedy}")
    return Finding(
        "deep look",
        True,
        f"{count(looked_at, 'frame')} decoded: photograph, label and remapped label agree in size,"
        " values and counts",
    )


def _tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    listed = _table(folder / "frames.csv", FRAME_COLUMNS)
    return listed, _table(folder / "pixel_counts.csv", ("frame", *ID_COLUMNS))


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of a table, text or whole numbers; ValueError for anything else."""
    kinds = {name: str if name in _TEXT else "int64" for name in columns}
    # Text as it stands: a city may be called `nan`, and an empty field is no number.
    table = pd.read_csv(path, dtype=kinds, keep_default_na=False)
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"{path} has no column {missing[0]}")
    return table[list(columns)]


def _spread(keys: Sequence[str]) -> list[str]:
    """The first, one in the middle, the last."""
    places = np.linspace(0, len(keys) - 1, min(_DEEP, len(keys))).round().astype(int)
    return [keys[place] for place in places]


def _compare(
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
