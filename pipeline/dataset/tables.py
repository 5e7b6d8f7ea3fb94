"""The two tables of `remap`, frames.csv and pixel_counts.csv: what they hold, strictly read."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segformer.cityscapes import LABELS

if TYPE_CHECKING:
    import pandas as pd

FRAME_COLUMNS = ("frame", "split", "city", "rows", "columns")
"""Of frames.csv: key, split, city, and the frame's size in pixels."""

ID_COLUMNS = [f"id_{label.label_id}" for label in LABELS]
"""Of pixel_counts.csv, behind `frame`: pixels of every label id."""

_TEXT_COLUMNS = ("frame", "split", "city")
_KEY_PATTERN = re.compile(r"[^/]+/[^/]+/[^/]+")
_REMEDY = "repeat remap (`dvc repro --force remap`)"


def read_table(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of one of the tables: texts as they stand (a city may be called `nan`), and numbers.

    Without pandas: processes that import this should start fast.

    Args:
        path: the table.
        columns: some of FRAME_COLUMNS or ID_COLUMNS, and `frame`.

    Returns:
        By column, a value per row: str, or a whole number from 0.

    Raises:
        ValueError: if the table is missing, is none, is empty, lacks a column, names a frame twice,
            or has a row or a field that `remap` would not write.
    """
    header, *rows = _read_rows(path) or [[]]
    absent = [name for name in columns if name not in header]
    if absent:
        raise ValueError(f"{path} has no column {absent[0]!r}: {_REMEDY}")
    if not rows:
        raise ValueError(f"{path} names no frame: {_REMEDY}")
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"{path} has a row that is cut short or too long: {_REMEDY}")
    places = {name: header.index(name) for name in columns}
    table = {name: [row[place] for row in rows] for name, place in places.items()}
    _check_frames(path, table["frame"])
    return {name: _convert_column(path, name, values) for name, values in table.items()}


def read_keys_by_split(frames: Path) -> dict[str, list[str]]:
    """The keys of every split of frames.csv, in the table's order.

    Raises:
        ValueError: as `read` does.
    """
    table = read_table(frames, FRAME_COLUMNS)
    keys: dict[str, list[str]] = {}
    for frame, split in zip(table["frame"], table["split"], strict=True):
        keys.setdefault(split, []).append(frame)
    return keys


def join_tables(frames: Path, pixel_counts: Path) -> "pd.DataFrame":
    """Both tables in one: FRAME_COLUMNS and ID_COLUMNS, a row per frame, in the order of `frames`.

    Raises:
        ValueError: as `read` does, and if one table names a frame that the other lacks.
    """
    import pandas as pd

    listed = read_table(frames, FRAME_COLUMNS)
    counted = read_table(pixel_counts, ("frame", *ID_COLUMNS))
    alone = sorted(set(listed["frame"]) ^ set(counted["frame"]))
    if alone:
        raise ValueError(
            f"{frames} and {pixel_counts} do not name the same frames: {len(alone)} stand in one of"
            f" them only (first: {alone[0]}); both are written by remap: {_REMEDY}"
        )
    return pd.DataFrame(listed).merge(pd.DataFrame(counted), on="frame", validate="1:1")


def _read_rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {_REMEDY}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table ({error}): {_REMEDY}") from None


def _check_frames(path: Path, keys: Sequence[str]) -> None:
    odd = next((key for key in keys if not _KEY_PATTERN.fullmatch(key)), None)
    if odd is not None:
        raise ValueError(f"{path} has {odd!r} where a frame should be named: {_REMEDY}")
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{path} names {key} twice: {_REMEDY}")
        seen.add(key)


def _convert_column(path: Path, column: str, values: Sequence[str]) -> list[Any]:
    """The values of a column as what they are, if all of them are that."""
    is_text = column in _TEXT_COLUMNS
    odd = next((value for value in values if not (value if is_text else _is_number(value))), None)
    if odd is not None:
        what = "nothing" if is_text else f"{odd!r}, which is no number of pixels,"
        raise ValueError(f"{path} has {what} in the column {column!r}: {_REMEDY}")
    return list(values) if is_text else [int(value) for value in values]


def _is_number(value: str) -> bool:
    """Whether it is a whole number of pixels: 18 digits always fit into 64 bits."""
    return value.isascii() and value.isdecimal() and len(value) <= 18
