from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.archive import IMAGE, LABEL_IDS, TRAIN_IDS, Archive, member_name
from pipeline.stages.remap import Remap, run
from tests.pipeline.conftest import KEYS, SIZE, save_png


def remap(tree: Path, out: Path) -> None:
    """Run the stage on an extracted tree."""
    run(
        Remap(split="official"),
        images=tree,
        ground_truth=tree,
        out=out,
        progress=lambda done, total: None,
    )


def test_ids_become_train_ids(tree: Path, tmp_path: Path) -> None:
    """Road is 0, rider 12, bicycle 18; parking, caravan and unlabeled are void."""
    label_ids = np.tile(np.array([7, 25, 33, 9, 29, 0], np.uint8), (SIZE[0], 11))[:, : SIZE[1]]
    save_png(tree / member_name(KEYS[0], LABEL_IDS), label_ids)
    remap(tree, tmp_path / "out")
    with Archive(tmp_path / "out" / "labels.zip") as archive:
        train_ids = archive.open_labels(member_name(KEYS[0], TRAIN_IDS))
    assert [0, 12, 18, 255, 255, 255] == train_ids[0, :6].tolist()


def test_tables_hold_every_frame(tree: Path, tmp_path: Path) -> None:
    """frames.csv has a row per frame in key order; the counts of a frame sum to its pixels."""
    remap(tree, tmp_path / "out")
    frames = pd.read_csv(tmp_path / "out" / "frames.csv")
    assert sorted(KEYS) == frames["frame"].tolist()
    assert frames["split"].tolist() == ["train"] * 3 + ["val"] * 2
    assert {SIZE} == set(zip(frames["rows"], frames["columns"], strict=True))
    counts = pd.read_csv(tmp_path / "out" / "pixel_counts.csv")
    label_ids = np.asarray(Image.open(tree / member_name(KEYS[0], LABEL_IDS)))
    assert np.bincount(label_ids.ravel(), minlength=34).tolist() == counts.iloc[0, 1:].tolist()


def test_the_test_split_is_left_alone(tree: Path, tmp_path: Path) -> None:
    """Test frames, whose labels are withheld, are neither needed nor taken."""
    key = "test/berlin/berlin_000000_000019"
    save_png(tree / member_name(key, IMAGE), np.zeros((*SIZE, 3), np.uint8))
    remap(tree, tmp_path / "out")
    assert key not in (tmp_path / "out" / "frames.csv").read_text()


def test_a_missing_label_in_the_middle_shifts_nothing(tree: Path, tmp_path: Path) -> None:
    """One label is removed: that frame is named, and nothing is written."""
    (tree / member_name(KEYS[1], LABEL_IDS)).unlink()
    with pytest.raises(
        ValueError, match=rf"1 problem .*\n{member_name(KEYS[1], IMAGE)} has no label"
    ):
        remap(tree, tmp_path / "out")
    assert [] == list(tmp_path.glob("out/*"))


def test_every_problem_at_once(tree: Path, tmp_path: Path) -> None:
    """Unknown id, missing photograph, unreadable picture and unlike size come in one message."""
    save_png(tree / member_name(KEYS[0], LABEL_IDS), np.full(SIZE, 77, np.uint8))
    (tree / member_name(KEYS[1], IMAGE)).unlink()
    (tree / member_name(KEYS[2], LABEL_IDS)).write_bytes(b"no picture")
    save_png(tree / member_name(KEYS[3], LABEL_IDS), np.zeros((16, 31), np.uint8))
    with pytest.raises(ValueError, match="remap: 4 problems") as error:
        remap(tree, tmp_path / "out")
    message = str(error.value)
    assert f"{member_name(KEYS[0], LABEL_IDS)} has id 77 at 2048 pixels" in message
    assert f"{member_name(KEYS[1], LABEL_IDS)} has no photograph" in message
    assert f"{member_name(KEYS[2], LABEL_IDS)} cannot be read" in message
    assert f"{member_name(KEYS[3], LABEL_IDS)} is 16 x 31 pixels, but its photograph is" in message


def test_an_empty_split_is_told(tree: Path, tmp_path: Path) -> None:
    """Without validation frames nothing could be scored: it stops here."""
    for key in KEYS[3:]:
        (tree / member_name(key, IMAGE)).unlink()
        (tree / member_name(key, LABEL_IDS)).unlink()
    with pytest.raises(ValueError, match="no frame of the split 'val'"):
        remap(tree, tmp_path / "out")


def test_a_frame_of_another_size_is_named(tree: Path, tmp_path: Path) -> None:
    """Frames may have any size, but one."""
    save_png(tree / member_name(KEYS[2], IMAGE), np.zeros((8, 8, 3), np.uint8))
    save_png(tree / member_name(KEYS[2], LABEL_IDS), np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"camelot_000000_000019_leftImg8bit\.png is 8 x 8 pixels"):
        remap(tree, tmp_path / "out")


def test_the_list_of_problems_is_bounded(tmp_path: Path) -> None:
    """Of very many problems twenty are listed and the rest is counted."""
    for number in range(30):
        key = f"train/avalon/avalon_{number:06}_000019"
        save_png(tmp_path / "tree" / member_name(key, IMAGE), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="remap: 32 problems") as error:
        remap(tmp_path / "tree", tmp_path / "out")
    assert "and 12 more" in str(error.value)
