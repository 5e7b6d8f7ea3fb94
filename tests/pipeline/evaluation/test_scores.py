from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.scores import Scores
from tests.fakes.score_factory import PROTOCOL, make_scores


def test_metrics_of_two_frames_by_hand() -> None:
    """Two classes with 6 of 8 and 1 of 2 pixels correct."""
    confusions = np.zeros((2, 19, 19), dtype=np.int64)
    confusions[0, 0, 0], confusions[0, 0, 1] = 4, 2
    confusions[1, 0, 0], confusions[1, 1, 1], confusions[1, 1, 0] = 2, 1, 1
    metrics = Scores(PROTOCOL, ["a", "b"], confusions).metrics(100, 0)
    # road: 6 / (6 + 2 missed + 1 false); sidewalk: 1 / (1 + 1 missed + 2 false)
    assert round((6 / 9 + 1 / 4) / 2, 6) == metrics["miou"]
    assert 0.7 == metrics["pixel_accuracy"]
    assert 1.0 == metrics["category_miou"]  # both are flat
    assert 2 == metrics["frames"]


def test_interval_contains_the_score_and_is_reproducible() -> None:
    """The score is within its interval, and the same seed gives the same interval."""
    scores = make_scores(0.7)
    metrics = scores.metrics(500, 0)
    low, miou, high = (metrics[name] for name in ("miou_low", "miou", "miou_high"))
    assert low is not None
    assert miou is not None
    assert high is not None
    assert 0 <= low < miou < high <= 1
    assert metrics == scores.metrics(500, 0)
    assert metrics != scores.metrics(500, 1)


def test_absent_class_has_no_iou() -> None:
    """A class in neither truth nor prediction has no IoU and does not lower the mean."""
    confusions = np.zeros((1, 19, 19), dtype=np.int64)
    confusions[0, 3, 3] = 5
    scores = Scores(PROTOCOL, ["a"], confusions)
    assert [None] * 3 + [1.0] + [None] * 15 == scores.class_iou()
    metrics = scores.metrics(10, 0)
    assert metrics["miou"] == 1.0
    assert metrics["miou_low"] is None
    assert "wall,3,construction,1.0,5,5" in scores.per_class().to_csv(index=False)
    assert "road,0,flat,,0,0" in scores.per_class().to_csv(index=False)


def test_scores_without_labeled_pixels_are_undefined() -> None:
    """If every pixel is void there is no score, and the sentence says so."""
    scores = Scores(PROTOCOL, ["a"], np.zeros((1, 19, 19), dtype=np.int64))
    metrics = scores.metrics(10, 0)
    assert metrics["miou"] is None
    assert metrics["pixel_accuracy"] is None
    assert "undefined" in scores.summarize(metrics)


def test_saved_scores_are_loaded_and_reproducible(tmp_path: Path) -> None:
    """Loaded scores equal the saved ones, and saving twice gives the same bytes."""
    scores = make_scores(0.7, frames=3)
    for name in ("one.npz", "two.npz"):
        scores.save(tmp_path / name)
    loaded = Scores.load(tmp_path / "one.npz")
    assert (scores.protocol, scores.frames) == (loaded.protocol, loaded.frames)
    np.testing.assert_array_equal(scores.confusions, loaded.confusions)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    """A missing, truncated or foreign file is named, with the remedy."""
    path = tmp_path / "confusions.npz"
    with pytest.raises(ValueError, match=r"confusions\.npz is missing: evaluate again"):
        Scores.load(path)
    make_scores(0.5, frames=2).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"confusions\.npz cannot be read .*: evaluate again"):
        Scores.load(path)
    np.savez(path, frames=np.array(["a"]), protocol=np.array("p"), confusions=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"confusions of shape \(2, 3\), expected \(1, 19, 19\)"):
        Scores.load(path)
