from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.evaluation.counts import DatasetCounts, count_frame
from pipeline.evaluation.frames import Frame
from segformer.cityscapes import IGNORE
from segformer.inference.score_resizing import Prediction
from segformer.metrics.boundary import boundary_counts, boundary_iou
from segformer.metrics.calibration import calibration_counts, expected_calibration_error
from segformer.metrics.confusion import confusion_matrix

SIZE = (24, 40)


def make_frame(seed: int = 0) -> tuple[Prediction, Frame]:
    """Random classes, confidence, labels with void, and no instances."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 21, SIZE, dtype=np.uint8)
    labels[labels > 18] = IGNORE
    classes = np.where((rng.random(SIZE) < 0.5) & (labels != IGNORE), labels, 4).astype(np.uint8)
    prediction = Prediction(
        torch.from_numpy(classes), torch.from_numpy(rng.random(SIZE, dtype=np.float32))
    )
    return prediction, Frame(
        "val/avalon/avalon_000000_000019", np.zeros((*SIZE, 3), np.uint8), labels, None
    )


def maps(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(1, h, w) confidence, classes and labels of `make_frame`."""
    prediction, frame = make_frame(seed)
    return (
        prediction.confidence[None],
        prediction.classes[None],
        torch.from_numpy(frame.labels)[None],
    )


def test_frame_counts_equal_the_library_functions() -> None:
    """Confusion, boundaries (1 pixel at this size) and calibration; None without instances."""
    confidence, classes, labels = maps(0)
    counts = count_frame(*make_frame())
    assert torch.equal(confusion_matrix(classes, labels, 19), counts.confusion)
    assert torch.equal(boundary_counts(classes, labels, 19, distance=1), counts.boundary)
    assert torch.equal(calibration_counts(confidence, classes, labels), counts.calibration)
    assert counts.instances is None


def test_bands_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in bands of five rows, the last one shorter, calibration has the same bits."""
    expected = count_frame(*make_frame())
    monkeypatch.setattr("pipeline.evaluation.counts._BAND_ROWS", 5)
    assert torch.equal(expected.calibration, count_frame(*make_frame()).calibration)


def test_set_is_scored_by_its_sums() -> None:
    """Scores are those of the summed counts, not means over frames."""
    counts = DatasetCounts.from_frames([count_frame(*make_frame(seed)) for seed in range(3)])
    calibration = sum(calibration_counts(*maps(seed)) for seed in range(3))
    boundary = sum(boundary_counts(*maps(seed)[1:], 19, distance=1) for seed in range(3))
    metrics = counts.metrics()
    assert round(float(expected_calibration_error(calibration)), 6) == metrics["ece"]
    assert round(float(boundary_iou(boundary).nanmean()), 6) == metrics["boundary_iou"]
    table = counts.reliability()
    assert ["lower", "upper", "pixels", "confidence", "accuracy"] == list(table.columns)
    assert int((torch.cat([maps(i)[2] for i in range(3)]) != IGNORE).sum()) == table["pixels"].sum()


def test_saved_counts_are_loaded_and_checked(tmp_path: Path) -> None:
    """Saved counts are loaded; other frames, a damaged and a missing file are refused by name."""
    counts = DatasetCounts.from_frames([count_frame(*make_frame(seed)) for seed in range(2)])
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
