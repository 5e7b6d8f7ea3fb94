"""pipeline.dataset.tables: frames.csv and pixel_counts.csv, strictly read."""

from pathlib import Path

import pytest

from pipeline.dataset.tables import (
    FRAME_COLUMNS,
    ID_COLUMNS,
    join_tables,
    read_keys_by_split,
    read_table,
)

HEAD = ",".join(FRAME_COLUMNS)
FRAMES = "train/nan/nan_000000_000019,train,nan,2,3\nval/007/007_000000_000019,val,007,2,3\n"


def write_frames(folder: Path, rows: str = FRAMES) -> Path:
    """Write frames.csv with these rows."""
    (folder / "frames.csv").write_text(f"{HEAD}\n{rows}")
    return folder / "frames.csv"


def write_counts(folder: Path, *keys: str) -> Path:
    """Write pixel_counts.csv for these frames, with 6 pixels of label id 0 each."""
    rows = [",".join(("frame", *ID_COLUMNS)), *(f"{key},6{',0' * 33}" for key in keys)]
    (folder / "pixel_counts.csv").write_text("\n".join(rows))
    return folder / "pixel_counts.csv"


def test_texts_are_unchanged(tmp_path: Path) -> None:
    """`nan` and `007` stay texts; rows and columns are numbers."""
    table = read_table(write_frames(tmp_path), FRAME_COLUMNS)
    assert ["nan", "007"] == table["city"]
    assert [(2, 3)] * 2 == list(zip(table["rows"], table["columns"], strict=True))


def test_keys_by_split(tmp_path: Path) -> None:
    """The keys of each split are in the order of the table."""
    rows = FRAMES + "train/ulm/ulm_000000_000019,train,ulm,2,3\n"
    assert {
        "train": ["train/nan/nan_000000_000019", "train/ulm/ulm_000000_000019"],
        "val": ["val/007/007_000000_000019"],
    } == read_keys_by_split(write_frames(tmp_path, rows))


def test_rows_are_joined_by_frame(tmp_path: Path) -> None:
    """The rows are in the order of frames.csv, whatever the order of the counts."""
    frames = write_frames(tmp_path)
    keys = read_table(frames, FRAME_COLUMNS)["frame"]
    joined = join_tables(frames, write_counts(tmp_path, *reversed(keys)))
    assert keys == joined["frame"].tolist()
    assert [*FRAME_COLUMNS, *ID_COLUMNS] == list(joined.columns)
    assert ["nan", "007"] == joined["city"].tolist()
    assert [6, 6] == joined["id_0"].tolist()


def test_a_frame_in_only_one_table_is_refused(tmp_path: Path) -> None:
    """The frame is named; it is not dropped silently."""
    with pytest.raises(ValueError, match=r"1 are in only one of them \(first: val/007/007_"):
        join_tables(write_frames(tmp_path), write_counts(tmp_path, "train/nan/nan_000000_000019"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "has no frames"),
        ("5,train,ulm,2,3\n", "has '5' in place of a frame key"),
        (",train,ulm,2,3\n", "has '' in place of a frame key"),
        ("train/ulm/a,,ulm,2,3\n", "has an empty field in the column 'split'"),
        ("train/ulm/a,train,,2,3\n", "has an empty field in the column 'city'"),
        (
            "train/ulm/a,train,ulm,,3\n",
            "has '', not a number of pixels, in the column 'rows'",
        ),
        ("train/ulm/a,train,ulm,2,-3\n", "has '-3', not a number"),
        ("train/ulm/a,train,ulm,2,3.0\n", "has '3.0', not a number"),
        ("train/ulm/a,train,ulm,2,1_0\n", "has '1_0', not a number"),
        ("train/ulm/a,train,ulm,2," + "9" * 19, "9', not a number"),
        ("train/ulm/a,train,ulm,2\n", "has a row with too few or too many fields"),
        ("train/ulm/a,train,ulm,2,3,4\n", "has a row with too few or too many fields"),
        ("\n", "has a row with too few or too many fields"),
    ],
)
def test_an_invalid_row_is_refused(tmp_path: Path, rows: str, words: str) -> None:
    """The message has the table, what is wrong, and what to do."""
    expected = rf"frames\.csv .*{words}.*: run `dvc repro --force remap`"
    with pytest.raises(ValueError, match=expected):
        read_keys_by_split(write_frames(tmp_path, rows))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """An empty file is not a table without frames."""
    (tmp_path / "frames.csv").touch()
    with pytest.raises(ValueError, match="has no column 'frame': run `dvc repro"):
        read_keys_by_split(tmp_path / "frames.csv")
