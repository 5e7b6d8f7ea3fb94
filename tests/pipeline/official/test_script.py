import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.dataset.archive import IMAGE, LABEL_IDS, TRAIN_IDS, Archive, member_name
from pipeline.evaluation.counts import DatasetCounts, count_frame
from pipeline.evaluation.frames import INSTANCE_IDS, FrameReader
from pipeline.evaluation.predictions import PredictionWriter
from pipeline.evaluation.scores import Scores
from pipeline.official import script
from pipeline.official.comparison import ScoreRow
from pipeline.synthetic import draw_frame
from segformer.cityscapes import NUM_CLASSES, train_id_table
from segformer.inference.score_resizing import Prediction
from tests.pipeline.conftest import save_png

KEYS = [f"val/avalon/avalon_{i:06}_000019" for i in range(2)]


def make_prediction(labels: np.ndarray, seed: int) -> Prediction:
    """A mostly right prediction: the truth shifted by two columns, with some pixels changed."""
    rng = np.random.default_rng(seed)
    classes = np.where(labels < NUM_CLASSES, np.roll(labels, 2, axis=1), 0)
    classes = np.where(classes < NUM_CLASSES, classes, 8)
    is_changed = rng.random(labels.shape) < 0.1
    classes = np.where(is_changed, rng.integers(0, NUM_CLASSES, labels.shape), classes)
    return Prediction(torch.from_numpy(classes.astype(np.uint8)), torch.full(labels.shape, 0.5))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn streets with instances, scored, with saved predictions."""
    folder = tmp_path_factory.mktemp("official")
    for i, key in enumerate(KEYS):
        street = draw_frame(np.random.default_rng(i), (128, 256))
        save_png(folder / member_name(key, IMAGE), street.image)
        save_png(folder / member_name(key, LABEL_IDS), street.label_ids)
        save_png(folder / member_name(key, TRAIN_IDS), train_id_table()[street.label_ids])
        save_png(folder / member_name(key, INSTANCE_IDS), street.instance_ids)
    evaluate(folder, folder / "result")
    return folder


def evaluate(folder: Path, result: Path, *, save_predictions: bool = True) -> None:
    """Score the predictions and write the files that the check reads."""
    result.mkdir()
    predictions = PredictionWriter(result / "predictions", is_enabled=save_predictions)
    counts = []
    for i, frame in enumerate(FrameReader(KEYS, *[Archive(folder)] * 3).prefetch()):
        prediction = make_prediction(frame.labels, i)
        counts.append(count_frame(prediction, frame))
        predictions.add(frame.key, prediction.classes)
    predictions.close()
    totals = DatasetCounts.from_frames(counts)
    totals.save(result / "counts.npz")
    scores = Scores("val2/official/128x256/whole/ss/last", KEYS, totals.confusions)
    scores.save(result / "confusions.npz")
    metrics = scores.metrics(10, 0) | totals.metrics()
    (result / "metrics.json").write_text(json.dumps(metrics))


def check(result: Path, ground_truth: Path | None) -> str:
    """Return the report of the check."""
    return script.compare_with_script(result, ground_truth=ground_truth, notify=lambda line: None)


def test_all_scores_equal_the_official_script(data: Path) -> None:
    """Class IoU, category IoU and iIoU, each and their means, equal those of the script."""
    report = check(data / "result", data)
    assert "equal to the official script in all 44 scores, to its last digit" in report
    assert "class IoU      road" in report
    # The comparison is not trivial: some cars are found and some are missed.
    ours = float(report.partition("class iIoU     car")[2].split()[1])
    assert 0.1 < ours < 0.95


def test_means_equal_the_metrics(data: Path) -> None:
    """The means of iIoU in the report are those of the metrics."""
    report = check(data / "result", data)
    scores = Scores.load(data / "result" / "confusions.npz")
    metrics = DatasetCounts.load(data / "result" / "counts.npz", scores.confusions).metrics()
    for kind, name in (("class iIoU", "instance_iou"), ("category iIoU", "category_instance_iou")):
        official = report.partition(f"{kind:<14} mean")[2].split()[0]
        assert f"{metrics[name]:.3f}" == official


def test_changed_prediction_is_refused(data: Path, tmp_path: Path) -> None:
    """One pixel changed after scoring is noticed, though no printed digit of a score changes."""
    evaluate(data, tmp_path / "result")
    path = next((tmp_path / "result" / "predictions").glob("*.png"))
    pixels = np.array(Image.open(path))
    pixels[100, 128] = 7 if pixels[100, 128] != 7 else 8
    save_png(path, pixels)
    with pytest.raises(ValueError, match="the saved predictions differ from the scored ones"):
        check(tmp_path / "result", data)


def test_tampered_instances_are_refused(data: Path, tmp_path: Path) -> None:
    """The iIoU computed from counts.npz is compared with the script's."""
    evaluate(data, tmp_path / "result")
    path = tmp_path / "result" / "counts.npz"
    counts = DatasetCounts.load(
        path, Scores.load(tmp_path / "result" / "confusions.npz").confusions
    )
    assert counts.instances is not None
    replace(counts, instances=counts.instances / 2).save(path)
    with pytest.raises(ValueError, match=r"scores differ .*first: class iIoU, person"):
        check(tmp_path / "result", data)


def test_tampered_confusions_are_refused(data: Path, tmp_path: Path) -> None:
    """The IoU computed from confusions.npz, here with half of one frame, is compared."""
    evaluate(data, tmp_path / "result")
    path = tmp_path / "result" / "confusions.npz"
    scores = Scores.load(path)
    replace(scores, confusions=scores.confusions // np.array([1, 2])[:, None, None]).save(path)
    with pytest.raises(ValueError, match=r"scores differ .*first: class IoU, road"):
        check(tmp_path / "result", data)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("miou", "class IoU"),
        ("category_miou", "category IoU"),
        ("instance_iou", "class iIoU"),
        ("category_instance_iou", "category iIoU"),
    ],
)
def test_tampered_metrics_are_refused(name: str, kind: str, data: Path, tmp_path: Path) -> None:
    """A mean in metrics.json that differs by one in the last printed digit is noticed."""
    copytree(data / "result", tmp_path / "result")
    path = tmp_path / "result" / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {name: metrics[name] + 0.001}))
    with pytest.raises(ValueError, match=rf"1 of 44 scores differ .*first: {kind}, metrics.json"):
        check(tmp_path / "result", data)


def test_scores_are_compared_to_the_last_printed_digit() -> None:
    """A difference in the last printed digit counts, a smaller one does not; nan equals nan."""
    assert ScoreRow("class IoU", "road", 0.12345, 0.12349).is_equal
    assert ScoreRow("class IoU", "road", math.nan, math.nan).is_equal
    assert not ScoreRow("class IoU", "road", 0.1234, 0.1236).is_equal
    assert not ScoreRow("class IoU", "road", 0.0, math.nan).is_equal


def test_missing_predictions_are_refused(data: Path, tmp_path: Path) -> None:
    """Without predictions the message names the parameter that saves them."""
    evaluate(data, tmp_path / "result", save_predictions=False)
    with pytest.raises(ValueError, match=r"0 of 2 frames: set evaluate\.save_predictions to true"):
        check(tmp_path / "result", data)


def test_without_instances_iou_alone_is_compared(data: Path, tmp_path: Path) -> None:
    """Without annotated instances iIoU is not compared, and undefined in the metrics."""
    folder = tmp_path / "tree"
    for path in data.rglob("avalon_*"):
        if "instanceIds" not in path.name and "result" not in path.parts:
            copy = folder / path.relative_to(data)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    evaluate(folder, tmp_path / "result")
    assert "in all 30 scores" in check(tmp_path / "result", folder)
    confusions = Scores.load(tmp_path / "result" / "confusions.npz").confusions
    metrics = DatasetCounts.load(tmp_path / "result" / "counts.npz", confusions).metrics()
    assert metrics["instance_iou"] is metrics["category_instance_iou"] is None


def test_missing_script_is_refused_with_the_command_to_install_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script is a dependency for developers, so users may not have it."""
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    monkeypatch.setitem(
        sys.modules, name, None
    )  # Python's mark of a module that cannot be imported
    with pytest.raises(ValueError, match="pip install 'cityscapesscripts"):
        check(data / "result", data)


def test_missing_ground_truth_is_refused(data: Path) -> None:
    """Without the gtFine zip the message names the command that brings it."""
    with pytest.raises(ValueError, match="run `dvc repro` first"):
        check(data / "result", None)
