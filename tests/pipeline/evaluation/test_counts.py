from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.evaluation import counts as counts_module
from pipeline.evaluation.counts import DatasetCounts, count_frame
from pipeline.evaluation.frames import Frame
from segformer.cityscapes import IGNORE
from segformer.inference.score_resizing import Prediction
from segformer.metrics.boundary import boundary_counts, boundary_iou
from segformer.metrics.calibration import calibration_counts, expected_calibration_error
from segformer.metrics.confusion import confusion_matrix

SIZE = (24, 40)


def scene(seed: int = 0) -> tuple[Prediction, Frame]:
    """Random classes, confidence, labels with void, and no instances."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 21, SIZE, dtype=np.uint8)
    labels[labels > 18] = IGNORE
    classes = np.where((rng.random(SIZE) < 0.5) & (labels != IGNORE), labels, 4).astype(np.uint8)
    seen = Prediction(
        torch.from_numpy(classes), torch.from_numpy(rng.random(SIZE, dtype=np.float32))
    )
    return seen, Frame(
        "val/avalon/avalon_000000_000019", np.zeros((*SIZE, 3), np.uint8), labels, None
    )


def maps(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(1, h, w) confidence, classes and labels of a scene."""
    seen, frame = scene(seed)
    return seen.confidence[None], seen.classes[None], torch.from_numpy(frame.labels)[None]


def test_a_frame_is_counted_as_the_library_counts_it() -> None:
    """Confusion, boundaries of one pixel at this size, calibration; no instances where none are."""
    confidence, classes, labels = maps(0)
    found = count_frame(*scene())
    assert torch.equal(confusion_matrix(classes, labels, 19), found.confusion)
    assert torch.equal(boundary_counts(classes, labels, 19, distance=1), found.boundary)
    assert torch.equal(calibration_counts(confidence, classes, labels), found.calibration)
    assert found.instances is None


def test_bands_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in bands of five rows, the last one shorter, calibration is the very same."""
    expected = count_frame(*scene())
    monkeypatch.setattr(counts_module, "_BAND_ROWS", 5)
    assert torch.equal(expected.calibration, count_frame(*scene()).calibration)


def test_a_set_is_scored_by_its_sums() -> None:
    """Not by the mean of its frames: large frames count for what they hold."""
    counts = DatasetCounts.from_frames([count_frame(*scene(seed)) for seed in range(3)])
    calibration = sum(calibration_counts(*maps(seed)) for seed in range(3))
    boundary = sum(boundary_counts(*maps(seed)[1:], 19, distance=1) for seed in range(3))
    metrics = counts.metrics()
    assert round(float(expected_calibration_error(calibration)), 6) == metrics["ece"]
    assert round(float(boundary_iou(boundary).nanmean()), 6) == metrics["boundary_iou"]
    table = counts.reliability()
    assert ["lower", "upper", "pixels", "confidence", "accuracy"] == list(table.columns)
    assert int((torch.cat([maps(i)[2] for i in range(3)]) != IGNORE).sum()) == table["pixels"].sum()


def test_counts_are_read_back_and_belong_to_their_frames(tmp_path: Path) -> None:
    """What was saved is read; counts of other frames, or of none, are refused by name."""
    counts = DatasetCounts.from_frames([count_frame(*scene(seed)) for seed in range(2)])
    path = tmp_path / "counts.npz"
    counts.save(path)
    assert counts.metrics() == DatasetCounts.load(path, counts.confusions).metrics()
    with pytest.raises(ValueError, match=r"counts\.npz has 2 frames, the confusions have 1:"):
        DatasetCounts.load(path, counts.confusions[:1])
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"counts\.npz cannot be read .*: evaluate again"):
        DatasetCounts.load(path, counts.confusions)
    path.unlink()
    with pytest.raises(ValueError, match=r"counts\.npz is missing: evaluate again"):
        DatasetCounts.load(path, counts.confusions)
