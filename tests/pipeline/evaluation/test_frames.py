import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.dataset.archive import IMAGE, TRAIN_IDS, Archive, member_name
from pipeline.evaluation.frames import INSTANCE_IDS, FrameReader, select_scored_rows
from tests.pipeline.conftest import save_png

KEYS = [f"val/avalon/avalon_{i:06}_000019" for i in range(7)]
SIZE = (4, 6)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Seven frames whose photograph, labels and instances have the constant value i."""
    for i, key in enumerate(KEYS):
        save_png(tmp_path / member_name(key, IMAGE), np.full((*SIZE, 3), i, np.uint8))
        save_png(tmp_path / member_name(key, TRAIN_IDS), np.full(SIZE, i, np.uint8))
        save_png(tmp_path / member_name(key, INSTANCE_IDS), np.full(SIZE, 26000 + i, np.uint16))
    return tmp_path


def make_reader(tree: Path, keys: list[str] = KEYS) -> FrameReader:
    """A reader whose three packages are one folder."""
    return FrameReader(keys, *[Archive(tree)] * 3)


def test_frames_are_prefetched_in_order(tree: Path) -> None:
    """Every frame comes once, with its own photograph, labels and instances, in any thread."""
    frames = list(make_reader(tree).prefetch())
    assert KEYS == [frame.key for frame in frames]
    for i, frame in enumerate(frames):
        assert frame.instance_ids is not None
        for pixels, value in (
            (frame.photograph, i),
            (frame.labels, i),
            (frame.instance_ids, 26000 + i),
        ):
            assert (pixels == value).all()


def test_processed_frames_are_freed(tree: Path) -> None:
    """Memory does not grow with the number of frames."""
    references: list[weakref.ref[np.ndarray]] = []
    for frame in make_reader(tree, KEYS * 3).prefetch():
        references.append(weakref.ref(frame.photograph))
        assert 2 >= sum(reference() is not None for reference in references)
    assert 21 == len(references)


def test_data_set_without_instances(tree: Path) -> None:
    """Without any instanceIds PNG, as in other data sets of this layout, instances are None."""
    for path in tree.rglob("*_instanceIds.png"):
        path.unlink()
    assert [None] * 7 == [frame.instance_ids for frame in make_reader(tree).prefetch()]


def test_single_frame_without_instances_is_refused(tree: Path) -> None:
    """Instances of some frames only are refused: their score would be of another set."""
    (tree / member_name(KEYS[1], INSTANCE_IDS)).unlink()
    with pytest.raises(
        ValueError, match=r"1 of 7 frames have no instanceIds PNG \(first: .*_000001"
    ):
        make_reader(tree)


@pytest.mark.parametrize(("kind", "name"), [(IMAGE, "photograph"), (INSTANCE_IDS, "instanceIds")])
def test_picture_of_another_size_is_refused(tree: Path, kind: str, name: str) -> None:
    """A picture of another size than the labels is named."""
    shape, dtype = ((3, 6, 3), np.uint8) if kind == IMAGE else ((3, 6), np.uint16)
    save_png(tree / member_name(KEYS[2], kind), np.zeros(shape, dtype))
    with pytest.raises(ValueError, match=f"_000002_000019: the {name}.* `dvc repro --force remap`"):
        list(make_reader(tree).prefetch())


def test_8_bit_instances_are_refused(tree: Path) -> None:
    """An 8-bit instanceIds PNG holds label ids under a wrong name."""
    save_png(tree / member_name(KEYS[0], INSTANCE_IDS), np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match="mode L; expected 16-bit gray"):
        make_reader(tree).read(KEYS[0])


def test_split_test_is_scored_before_val(tmp_path: Path) -> None:
    """The frames of the split test are scored if there are any, otherwise those of val."""
    path = tmp_path / "frames.csv"
    for splits, expected in ((["val", "test", "test", "train"], [1, 2]), (["train", "val"], [1])):
        pd.DataFrame({"frame": range(len(splits)), "split": splits}).to_csv(path, index=False)
        assert expected == select_scored_rows(path)["frame"].tolist()


def test_table_without_scored_frames_is_refused(tmp_path: Path) -> None:
    """A table without test and val frames is refused."""
    path = tmp_path / "frames.csv"
    pd.DataFrame({"frame": ["a"], "split": ["train"]}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"frames\.csv: no frame in the split test or val"):
        select_scored_rows(path)
