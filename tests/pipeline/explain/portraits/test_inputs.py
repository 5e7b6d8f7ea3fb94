"""The best arm, and frames at the size of the network's input."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.dataset.archive import IMAGE, TRAIN_IDS, Archive, member_name
from pipeline.explain.portraits.inputs import read_frame, select_best_arm, select_frames
from segformer.inference.settings import InferenceSettings
from tests.pipeline.conftest import save_png

KEY = "val/avalon/avalon_000000_000019"


def write_metrics(folder: Path, arm: str, miou: float | None, protocol: str = "val3") -> None:
    """Write metrics.json of an arm."""
    (folder / arm).mkdir(parents=True)
    (folder / arm / "metrics.json").write_text(json.dumps({"miou": miou, "protocol": protocol}))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A frame of 8 x 16 pixels, each with its number as red and as label."""
    numbers = np.arange(8 * 16, dtype=np.uint8).reshape(8, 16)
    save_png(tmp_path / member_name(KEY, IMAGE), np.stack([numbers] * 3, axis=2))
    save_png(tmp_path / member_name(KEY, TRAIN_IDS), numbers % 19)
    return tmp_path


def test_best_arm_has_the_highest_miou(tmp_path: Path) -> None:
    """An arm without mIoU is behind all others; arms that were not asked for do not count."""
    values = {"ce-0": 0.2, "ce-1": None, "dice-0": 0.3, "old-0": 0.9}
    for arm, miou in values.items():
        write_metrics(tmp_path, arm, miou)
    assert ("dice-0", "val3") == select_best_arm(tmp_path, ["dice-0", "ce-0", "ce-1"])


def test_ties_go_to_the_first_name(tmp_path: Path) -> None:
    """Of two arms with the same mIoU it is the first by name, in any order."""
    for arm in ("ce-0", "dice-0"):
        write_metrics(tmp_path, arm, 0.3)
    assert "ce-0" == select_best_arm(tmp_path, ["dice-0", "ce-0"])[0]


def test_missing_evaluation(tmp_path: Path) -> None:
    """The error has the file and the command that writes it."""
    with pytest.raises(ValueError, match=r"metrics.json is missing: run `dvc repro evaluate@ce-0`"):
        select_best_arm(tmp_path, ["ce-0"])


@pytest.mark.parametrize("text", ["", "[]", '{"miou": 0.1}'])
def test_damaged_evaluation(text: str, tmp_path: Path) -> None:
    """A file without JSON, or without the two values, is an error with the command."""
    write_metrics(tmp_path, "ce-0", 0.3)
    (tmp_path / "ce-0" / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match="is damaged: run `dvc repro --force evaluate@ce-0`"):
        select_best_arm(tmp_path, ["ce-0"])


def test_scores_of_two_protocols_are_not_compared(tmp_path: Path) -> None:
    """The error has both arms and both protocols."""
    write_metrics(tmp_path, "ce-0", 0.3)
    write_metrics(tmp_path, "dice-0", 0.2, "val5")
    with pytest.raises(ValueError, match="ce-0 and dice-0 have different protocols, val3 and val5"):
        select_best_arm(tmp_path, ["ce-0", "dice-0"])


def test_frames_are_spread_over_the_scored_ones(tmp_path: Path) -> None:
    """Three of five validation frames: the first, the middle and the last; no training frame."""
    keys = [f"val/avalon/avalon_{i:06}_000019" for i in range(5)]
    splits = dict.fromkeys(keys, "val") | {"train/camelot/camelot_000000_000019": "train"}
    table = pd.DataFrame({"frame": list(splits), "split": list(splits.values())})
    table.to_csv(tmp_path / "frames.csv", index=False)
    assert keys[::2] == select_frames(tmp_path / "frames.csv", 3)
    assert keys == select_frames(tmp_path / "frames.csv", 100)


def test_labels_are_resized_to_the_nearest(tree: Path) -> None:
    """At half the size every second label remains, and the photograph has the same size."""
    with Archive(tree) as archive:
        frame = read_frame(KEY, archive, archive, InferenceSettings((4, 8)))
    numbers = np.arange(8 * 16).reshape(8, 16) % 19
    np.testing.assert_array_equal(numbers[1::2, 1::2], frame.labels)
    assert (4, 8, 3) == frame.photograph.shape


def test_sliding_windows_give_the_middle_one(tree: Path) -> None:
    """A window of 20 x 4 pixels on 8 x 16: all rows, and columns 6 to 9."""
    settings = InferenceSettings(None, ((20, 4), (1, 1)))
    with Archive(tree) as archive:
        frame = read_frame(KEY, archive, archive, settings)
    numbers = np.arange(8 * 16).reshape(8, 16)[:, 6:10]
    np.testing.assert_array_equal(numbers, frame.photograph[:, :, 0])
    np.testing.assert_array_equal(numbers % 19, frame.labels)


def test_photograph_of_another_size_than_its_labels(tree: Path) -> None:
    """The error has the frame and both sizes."""
    save_png(tree / member_name(KEY, TRAIN_IDS), np.zeros((4, 4), np.uint8))
    with (
        Archive(tree) as archive,
        pytest.raises(ValueError, match=rf"{KEY}: the photograph has \(8, 16\) pixels"),
    ):
        read_frame(KEY, archive, archive, InferenceSettings())
