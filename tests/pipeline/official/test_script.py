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


def guess(labels: np.ndarray, seed: int) -> Prediction:
    """A prediction that is mostly right: the truth, two columns aside, with some pixels changed."""
    rng = np.random.default_rng(seed)
    classes = np.where(labels < NUM_CLASSES, np.roll(labels, 2, axis=1), 0)
    classes = np.where(classes < NUM_CLASSES, classes, 8)
    wrong = rng.random(labels.shape) < 0.1
    classes = np.where(wrong, rng.integers(0, NUM_CLASSES, labels.shape), classes)
    return Prediction(torch.from_numpy(classes.astype(np.uint8)), torch.full(labels.shape, 0.5))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn streets with their instances, scored; their predictions are kept."""
    folder = tmp_path_factory.mktemp("official")
    for i, key in enumerate(KEYS):
        street = draw_frame(np.random.default_rng(i), (128, 256))
        save_png(folder / member_name(key, IMAGE), street.image)
        save_png(folder / member_name(key, LABEL_IDS), street.label_ids)
        save_png(folder / member_name(key, TRAIN_IDS), train_id_table()[street.label_ids])
        save_png(folder / member_name(key, INSTANCE_IDS), street.instance_ids)
    evaluate(folder, folder / "result")
    return folder


def evaluate(folder: Path, result: Path, *, is_wanted: bool = True) -> None:
    """Score the guesses, as far as the check reads it."""
    result.mkdir()
    predictions = PredictionWriter(result / "predictions", is_enabled=is_wanted)
    counts = []
    for i, frame in enumerate(FrameReader(KEYS, *[Archive(folder)] * 3).prefetch()):
        seen = guess(frame.labels, i)
        counts.append(count_frame(seen, frame))
        predictions.add(frame.key, seen.classes)
    predictions.close()
    together = DatasetCounts.from_frames(counts)
    together.save(result / "counts.npz")
    scores = Scores("val2/official/128x256/whole/ss/last", KEYS, together.confusions)
    scores.save(result / "confusions.npz")
    metrics = scores.metrics(10, 0) | together.metrics()
    (result / "metrics.json").write_text(json.dumps(metrics))


def check(result: Path, ground_truth: Path | None) -> str:
    """What the check says."""
    return script.compare_with_script(result, ground_truth=ground_truth, notify=lambda line: None)


def test_the_official_script_agrees(data: Path) -> None:
    """Class IoU, category IoU and iIoU, of each and on average, on the predictions kept."""
    said = check(data / "result", data)
    assert "equal to the official script in all 44 scores, to its last digit" in said
    assert "class IoU      road" in said
    # Not for want of anything to compare: there are cars, found and missed.
    ours = float(said.partition("class iIoU     car")[2].split()[1])
    assert 0.1 < ours < 0.95


def test_the_means_are_those_of_the_metrics(data: Path) -> None:
    """What metrics.json has is what the official script says, unrounded but for its digits."""
    said = check(data / "result", data)
    scores = Scores.load(data / "result" / "confusions.npz")
    metrics = DatasetCounts.load(data / "result" / "counts.npz", scores.confusions).metrics()
    for kind, name in (("class iIoU", "instance_iou"), ("category iIoU", "category_instance_iou")):
        told = said.partition(f"{kind:<14} mean")[2].split()[0]
        assert f"{metrics[name]:.3f}" == told


def test_a_changed_prediction_is_noticed(data: Path, tmp_path: Path) -> None:
    """A prediction changed after it was scored: the script is right about it, and scores are not.

    One pixel will do, though no digit of a score changes by it.
    """
    evaluate(data, tmp_path / "result")
    path = next((tmp_path / "result" / "predictions").glob("*.png"))
    pixels = np.array(Image.open(path))
    pixels[100, 128] = 7 if pixels[100, 128] != 7 else 8
    save_png(path, pixels)
    with pytest.raises(ValueError, match="the saved predictions are not those that were scored"):
        check(tmp_path / "result", data)


def test_tampered_instances_are_noticed(data: Path, tmp_path: Path) -> None:
    """It is the iIoU of the result's own files that is compared with the script's."""
    evaluate(data, tmp_path / "result")
    path = tmp_path / "result" / "counts.npz"
    counts = DatasetCounts.load(
        path, Scores.load(tmp_path / "result" / "confusions.npz").confusions
    )
    assert counts.instances is not None
    replace(counts, instances=counts.instances / 2).save(path)
    with pytest.raises(ValueError, match=r"scores differ .*first: class iIoU, person"):
        check(tmp_path / "result", data)


def test_tampered_confusions_are_noticed(data: Path, tmp_path: Path) -> None:
    """A frame of which half the pixels are taken away: what follows is not the script's."""
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
def test_tampered_metrics_are_noticed(name: str, kind: str, data: Path, tmp_path: Path) -> None:
    """A mean in metrics.json that is not the script's, by one in the last digit it prints."""
    copytree(data / "result", tmp_path / "result")
    path = tmp_path / "result" / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {name: metrics[name] + 0.001}))
    with pytest.raises(ValueError, match=rf"1 of 44 scores differ .*first: {kind}, metrics.json"):
        check(tmp_path / "result", data)


def test_another_score_than_the_scripts_is_told() -> None:
    """A difference in the last digit it prints, and none below."""
    assert ScoreRow("class IoU", "road", 0.12345, 0.12349).is_equal
    assert ScoreRow("class IoU", "road", math.nan, math.nan).is_equal
    assert not ScoreRow("class IoU", "road", 0.1234, 0.1236).is_equal
    assert not ScoreRow("class IoU", "road", 0.0, math.nan).is_equal


def test_the_check_needs_predictions(data: Path, tmp_path: Path) -> None:
    """Without them it says which parameter keeps them."""
    evaluate(data, tmp_path / "result", is_wanted=False)
    with pytest.raises(ValueError, match=r"0 of 2 frames: set evaluate\.save_predictions to true"):
        check(tmp_path / "result", data)


def test_without_instances_the_rest_is_compared(data: Path, tmp_path: Path) -> None:
    """IIoU is left out where no instance is annotated, and metrics say that there is none."""
    folder = tmp_path / "tree"
    for path in data.rglob("avalon_*"):
        if "instanceIds" not in path.name and "result" not in path.parts:
            to = folder / path.relative_to(data)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    evaluate(folder, tmp_path / "result")
    assert "in all 30 scores" in check(tmp_path / "result", folder)
    confusions = Scores.load(tmp_path / "result" / "confusions.npz").confusions
    metrics = DatasetCounts.load(tmp_path / "result" / "counts.npz", confusions).metrics()
    assert metrics["instance_iou"] is metrics["category_instance_iou"] is None


def test_without_the_script_it_says_how_to_get_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for developers, so a user may not have it."""
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    monkeypatch.setitem(sys.modules, name, None)  # as Python has it for what cannot be imported
    with pytest.raises(ValueError, match="pip install 'cityscapesscripts"):
        check(data / "result", data)


def test_without_ground_truth_it_says_what_to_do(data: Path) -> None:
    """The labels are compared with, and they are not kept with a result."""
    with pytest.raises(ValueError, match="run `dvc repro` first"):
        check(data / "result", None)
