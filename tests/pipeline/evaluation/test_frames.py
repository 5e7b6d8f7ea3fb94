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
    """Seven frames of which the i-th is all i: photograph, labels and instances."""
    for i, key in enumerate(KEYS):
        save_png(tmp_path / member_name(key, IMAGE), np.full((*SIZE, 3), i, np.uint8))
        save_png(tmp_path / member_name(key, TRAIN_IDS), np.full(SIZE, i, np.uint8))
        save_png(tmp_path / member_name(key, INSTANCE_IDS), np.full(SIZE, 26000 + i, np.uint16))
    return tmp_path


def reader(tree: Path, keys: list[str] = KEYS) -> FrameReader:
    """All three packages are one folder."""
    return FrameReader(keys, *[Archive(tree)] * 3)


def test_frames_come_whole_and_in_order(tree: Path) -> None:
    """Every frame once, its own photograph, labels and instances together, however many threads."""
    frames = list(reader(tree).prefetch())
    assert KEYS == [frame.key for frame in frames]
    for i, frame in enumerate(frames):
        assert frame.instance_ids is not None
        for one, value in (
            (frame.photograph, i),
            (frame.labels, i),
            (frame.instance_ids, 26000 + i),
        ):
            assert (one == value).all()


def test_frames_of_the_past_are_let_go(tree: Path) -> None:
    """However many frames there are, those that were worked on take no memory."""
    alive: list[weakref.ref[np.ndarray]] = []
    for frame in reader(tree, KEYS * 3).prefetch():
        alive.append(weakref.ref(frame.photograph))
        assert 2 >= sum(each() is not None for each in alive)
    assert 21 == len(alive)


def test_no_instances_at_all_are_none(tree: Path) -> None:
    """Other data sets in this layout have none."""
    for path in tree.rglob("*_instanceIds.png"):
        path.unlink()
    assert [None] * 7 == [frame.instance_ids for frame in reader(tree).prefetch()]


def test_a_single_frame_without_instances_is_a_mistake(tree: Path) -> None:
    """A score of some frames alone would be of another set than it says."""
    (tree / member_name(KEYS[1], INSTANCE_IDS)).unlink()
    with pytest.raises(
        ValueError, match=r"1 of 7 frames have no instanceIds PNG \(first: .*_000001"
    ):
        reader(tree)


@pytest.mark.parametrize(("kind", "told"), [(IMAGE, "photograph"), (INSTANCE_IDS, "instanceIds")])
def test_a_picture_of_another_size_is_named(tree: Path, kind: str, told: str) -> None:
    """What does not lie over the labels is not scored."""
    shape, dtype = ((3, 6, 3), np.uint8) if kind == IMAGE else ((3, 6), np.uint16)
    save_png(tree / member_name(KEYS[2], kind), np.zeros(shape, dtype))
    with pytest.raises(ValueError, match=f"_000002_000019: the {told}.* repeat remap"):
        list(reader(tree).prefetch())


def test_instances_in_eight_bits_are_refused(tree: Path) -> None:
    """They would be label ids under a wrong name."""
    save_png(tree / member_name(KEYS[0], INSTANCE_IDS), np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match="should be 16 bit grey"):
        reader(tree).read(KEYS[0])


def test_the_final_number_comes_from_the_split_test(tmp_path: Path) -> None:
    """Frames that are kept for the final number are scored alone; else those of val."""
    path = tmp_path / "frames.csv"
    for splits, expected in ((["val", "test", "test", "train"], [1, 2]), (["train", "val"], [1])):
        pd.DataFrame({"frame": range(len(splits)), "split": splits}).to_csv(path, index=False)
        assert expected == select_scored_rows(path)["frame"].tolist()


def test_no_validation_frame(tmp_path: Path) -> None:
    """A table without validation frames is refused."""
    path = tmp_path / "frames.csv"
    pd.DataFrame({"frame": ["a"], "split": ["train"]}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"frames\.csv: no frame in the split test or val"):
        select_scored_rows(path)
