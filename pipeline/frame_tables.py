"""The two tables of `remap`, frames.csv and pixel_counts.csv: their columns, and who is in them."""

import csv
from pathlib import Path

from segformer.cityscapes import LABELS

FRAME_COLUMNS = ("frame", "split", "city", "rows", "columns")
"""Of frames.csv: key, split, city, and the frame's size in pixels."""

ID_COLUMNS = [f"id_{label.label_id}" for label in LABELS]
"""Of pixel_counts.csv, behind `frame`: pixels of every label id."""


def keys_by_split(frames: Path) -> dict[str, list[str]]:
    """The keys of every split of frames.csv, in the table's order.

    Read without pandas: processes that import this should start fast.

    Raises:
        ValueError: if the table is missing, is none, or names a frame twice.
    """
    try:
        with frames.open(encoding="utf-8", newline="") as file:
            rows = [(row["frame"], row["split"]) for row in csv.DictReader(file, strict=True)]
    except FileNotFoundError:
        raise ValueError(f"{frames} is missing: repeat remap") from None
    except KeyError as column:
        raise ValueError(f"{frames} has no column {column}: repeat remap") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{frames} is no table ({error}): repeat remap") from None
    keys: dict[str, list[str]] = {}
    seen: set[str] = set()
    for frame, split in rows:
        if not frame or not split:
            raise ValueError(f"{frames} has a row that is cut short: repeat remap")
        if frame in seen:
            raise ValueError(f"{frames} names {frame} twice: repeat remap")
        seen.add(frame)
        keys.setdefault(split, []).append(frame)
    return keys
