"""Reads and checks the two tables of `remap`, frames.csv and pixel_counts.csv."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segformer.cityscapes import LABELS

if TYPE_CHECKING:
    import pandas as pd

FRAME_COLUMNS = ("frame", "split", "city", "rows", "columns")
"""Columns of frames.csv: key, split, city, and the frame's size in pixels."""

ID_COLUMNS = [f"id_{label.label_id}" for label in LABELS]
"""Columns of pixel_counts.csv after `frame`: pixels of every label id."""

_TEXT_COLUMNS = ("frame", "split", "city")
_KEY_PATTERN = re.compile(r"[^/]+/[^/]+/[^/]+")
_REMEDY = "run `dvc repro --force remap`"


def read_table(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of one of the tables: unchanged texts (a city may be called `nan`), and numbers.

    Without pandas, so that worker processes start fast.

    Args:
        path: the table.
        columns: some of FRAME_COLUMNS or ID_COLUMNS, and `frame`.

    Returns:
        By column, a value per row: str, or int of at least 0.

    Raises:
        ValueError: if the table is missing, not a CSV, or empty, has no such column, a frame twice,
            or a row or field that `remap` would not write.
    """
    header, *rows = _read_rows(path) or [[]]
    absent = [name for name in columns if name not in header]
    if absent:
        raise ValueError(f"{path} has no column {absent[0]!r}: {_REMEDY}")
    if not rows:
        raise ValueError(f"{path} has no frames: {_REMEDY}")
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"{path} has a row with too few or too many fields: {_REMEDY}")
    positions = {name: header.index(name) for name in columns}
    table = {name: [row[position] for row in rows] for name, position in positions.items()}
    _check_frames(path, table["frame"])
    return {name: _convert_column(path, name, values) for name, values in table.items()}


def read_keys_by_split(frames: Path) -> dict[str, list[str]]:
    """The keys of each split in frames.csv, in the order of the table.

    Raises:
        ValueError: as `read_table`.
    """
    table = read_table(frames, FRAME_COLUMNS)
    keys: dict[str, list[str]] = {}
    for frame, split in zip(table["frame"], table["split"], strict=True):
        keys.setdefault(split, []).append(frame)
    return keys


def join_tables(frames: Path, pixel_counts: Path) -> "pd.DataFrame":
    """Join both tables: FRAME_COLUMNS and ID_COLUMNS, a row per frame, in the order of `frames`.

    Raises:
        ValueError: as `read_table`, and if the two tables have different frames.
    """
    import pandas as pd

    frame_table = read_table(frames, FRAME_COLUMNS)
    count_table = read_table(pixel_counts, ("frame", *ID_COLUMNS))
    unmatched = sorted(set(frame_table["frame"]) ^ set(count_table["frame"]))
    if unmatched:
        raise ValueError(
            f"{frames} and {pixel_counts} have different frames: {len(unmatched)} are in only one"
            f" of them (first: {unmatched[0]}); remap writes both: {_REMEDY}"
        )
    return pd.DataFrame(frame_table).merge(pd.DataFrame(count_table), on="frame", validate="1:1")


def _read_rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {_REMEDY}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV table ({error}): {_REMEDY}") from None


def _check_frames(path: Path, keys: Sequence[str]) -> None:
    invalid = next((key for key in keys if not _KEY_PATTERN.fullmatch(key)), None)
    if invalid is not None:
        raise ValueError(f"{path} has {invalid!r} in place of a frame key: {_REMEDY}")
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{path} has {key} twice: {_REMEDY}")
        seen.add(key)


def _convert_column(path: Path, column: str, values: Sequence[str]) -> list[Any]:
    """The values of a column, as text or as whole numbers."""
    is_text = column in _TEXT_COLUMNS
    is_valid = bool if is_text else _is_number
    invalid = next((value for value in values if not is_valid(value)), None)
    if invalid is not None:
        reason = "an empty field" if is_text else f"{invalid!r}, not a number of pixels,"
        raise ValueError(f"{path} has {reason} in the column {column!r}: {_REMEDY}")
    return list(values) if is_text else [int(value) for value in values]


def _is_number(value: str) -> bool:
    """Whether it is a whole number of pixels: 18 digits always fit into 64 bits."""
    return value.isascii() and value.isdecimal() and len(value) <= 18
