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


def table(folder: Path, rows: str = FRAMES) -> Path:
    """frames.csv with these rows."""
    (folder / "frames.csv").write_text(f"{HEAD}\n{rows}")
    return folder / "frames.csv"


def counts(folder: Path, *keys: str) -> Path:
    """pixel_counts.csv for these frames, with 6 pixels of label id 0 each."""
    rows = [",".join(("frame", *ID_COLUMNS)), *(f"{key},6{',0' * 33}" for key in keys)]
    (folder / "pixel_counts.csv").write_text("\n".join(rows))
    return folder / "pixel_counts.csv"


def test_texts_stay_as_they_stand(tmp_path: Path) -> None:
    """Neither is `nan` nothing nor `007` seven; rows and columns are numbers."""
    found = read_table(table(tmp_path), FRAME_COLUMNS)
    assert ["nan", "007"] == found["city"]
    assert [(2, 3)] * 2 == list(zip(found["rows"], found["columns"], strict=True))


def test_keys_by_split(tmp_path: Path) -> None:
    """In the table's order, which need not be the splits'."""
    rows = FRAMES + "train/ulm/ulm_000000_000019,train,ulm,2,3\n"
    assert {
        "train": ["train/nan/nan_000000_000019", "train/ulm/ulm_000000_000019"],
        "val": ["val/007/007_000000_000019"],
    } == read_keys_by_split(table(tmp_path, rows))


def test_rows_are_joined_by_frame(tmp_path: Path) -> None:
    """In the order of frames.csv, whatever that of the counts."""
    frames = table(tmp_path)
    keys = read_table(frames, FRAME_COLUMNS)["frame"]
    both = join_tables(frames, counts(tmp_path, *reversed(keys)))
    assert keys == both["frame"].tolist()
    assert [*FRAME_COLUMNS, *ID_COLUMNS] == list(both.columns)
    assert ["nan", "007"] == both["city"].tolist()
    assert [6, 6] == both["id_0"].tolist()


def test_a_frame_that_one_table_lacks_is_refused(tmp_path: Path) -> None:
    """It is named; it is not left out in silence."""
    with pytest.raises(ValueError, match=r"1 stand in one of them only \(first: val/007/007_"):
        join_tables(table(tmp_path), counts(tmp_path, "train/nan/nan_000000_000019"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "names no frame"),
        ("5,train,ulm,2,3\n", "has '5' where a frame should be named"),
        (",train,ulm,2,3\n", "has '' where a frame should be named"),
        ("train/ulm/a,,ulm,2,3\n", "has nothing in the column 'split'"),
        ("train/ulm/a,train,,2,3\n", "has nothing in the column 'city'"),
        (
            "train/ulm/a,train,ulm,,3\n",
            "has '', which is no number of pixels, in the column 'rows'",
        ),
        ("train/ulm/a,train,ulm,2,-3\n", "has '-3', which is no number"),
        ("train/ulm/a,train,ulm,2,3.0\n", "has '3.0', which is no number"),
        ("train/ulm/a,train,ulm,2,1_0\n", "has '1_0', which is no number"),
        ("train/ulm/a,train,ulm,2," + "9" * 19, "9', which is no number"),
        ("train/ulm/a,train,ulm,2\n", "has a row that is cut short or too long"),
        ("train/ulm/a,train,ulm,2,3,4\n", "has a row that is cut short or too long"),
        ("\n", "has a row that is cut short or too long"),
    ],
)
def test_what_remap_would_not_write_is_refused(tmp_path: Path, rows: str, words: str) -> None:
    """The table is named, with what is wrong and what to do."""
    expected = rf"frames\.csv .*{words}.*: repeat remap \(`dvc repro --force remap`\)"
    with pytest.raises(ValueError, match=expected):
        read_keys_by_split(table(tmp_path, rows))


def test_a_table_that_is_an_empty_file_is_refused(tmp_path: Path) -> None:
    """It is not a table without frames."""
    (tmp_path / "frames.csv").touch()
    with pytest.raises(ValueError, match="has no column 'frame': repeat remap"):
        read_keys_by_split(tmp_path / "frames.csv")
