import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.dataset.archive import IMAGE, LABEL_IDS, TRAIN_IDS, member_name
from pipeline.evaluation.frames import INSTANCE_IDS
from pipeline.evaluation.scores import Scores
from pipeline.official import script
from pipeline.params.evaluate import Evaluate
from pipeline.stages.evaluate import EvaluationData, EvaluationResult, evaluate_model
from segformer import SegFormer, load, save
from segformer.cityscapes import CLASSES, IGNORE
from segformer.data.packed_frames import normalize
from segformer.data.resize import resize_image
from segformer.inference.segment import eval_mode, resize_scores, segment
from tests.pipeline.conftest import save_png

KEYS = [f"val/avalon/avalon_{i:06}_000019" for i in range(3)]
SIZE = (40, 72)
PARAMS = Evaluate(
    size=(32, 64),
    mode="whole",
    window=(29, 40),
    stride=(20, 30),
    flip=False,
    scales=(1.0,),
    save_predictions=False,
    corruptions=(),
    worst=1,
    typical=1,
    bootstrap=50,
    seed=0,
)


def make_data(tmp_path: Path) -> Path:
    """Write three frames of 40 x 72 pixels, a training frame in the table, and an untrained model.

    Half of the car and person pixels have instances, the others are groups.
    """
    rng = np.random.default_rng(0)
    for key in KEYS:
        photograph = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        save_png(tmp_path / "tree" / member_name(key, IMAGE), photograph)
        truth = rng.integers(0, 21, SIZE, dtype=np.uint8)
        truth[truth > 18] = IGNORE
        save_png(tmp_path / "tree" / member_name(key, TRAIN_IDS), truth)
        label_ids = np.zeros(SIZE, dtype=np.uint16)
        for label in CLASSES:
            label_ids[truth == label.train_id] = label.label_id
        save_png(tmp_path / "tree" / member_name(key, LABEL_IDS), label_ids.astype(np.uint8))
        has_instance = np.isin(label_ids, (24, 26)) & (np.arange(SIZE[1]) % 16 < 8)
        instances = np.where(has_instance, label_ids * 1000 + np.arange(SIZE[1]) // 16, label_ids)
        save_png(tmp_path / "tree" / member_name(key, INSTANCE_IDS), instances.astype(np.uint16))
    rows = [[key, "val", "avalon", *SIZE] for key in KEYS]
    rows.append(["train/camelot/camelot_000000_000019", "train", "camelot", *SIZE])
    table = pd.DataFrame(rows, columns=["frame", "split", "city", "rows", "columns"])
    table.to_csv(tmp_path / "frames.csv", index=False)
    torch.manual_seed(0)
    save(SegFormer("b0", decoder_width=16), tmp_path / "ce-0")
    return tmp_path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data, in a new folder."""
    return make_data(tmp_path)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data with the result in `out`, with predictions; tests must not change it."""
    folder = make_data(tmp_path_factory.mktemp("evaluated"))
    evaluate(folder, PARAMS.model_copy(update={"save_predictions": True}))
    return folder


def evaluate(data: Path, params: Evaluate = PARAMS) -> EvaluationResult:
    """Run the stage."""
    return evaluate_model(
        params,
        model=data / "ce-0",
        data=EvaluationData(data / "tree", data / "tree", data / "tree", data / "frames.csv"),
        split_id="official",
        out=data / "out",
        progress=lambda done, total: None,
    )


def count_slowly(data: Path, key: str) -> np.ndarray:
    """Count the confusion of one frame pixel by pixel."""
    photograph = np.asarray(Image.open(data / "tree" / member_name(key, IMAGE)))
    truth = np.asarray(Image.open(data / "tree" / member_name(key, TRAIN_IDS)))
    image = torch.tensor(resize_image(photograph, PARAMS.size))[None]
    model = load(data / "ce-0")
    predicted = segment(model, image, input_size=PARAMS.size, output_size=SIZE)[0].numpy()
    counts = np.zeros((19, 19), dtype=np.int64)
    pairs = zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True)
    for true_class, predicted_class in pairs:
        if true_class != IGNORE:
            counts[true_class, predicted_class] += 1
    return counts


def test_stage_equals_a_slow_count(evaluated: Path) -> None:
    """All files exist, and confusions, tables and metrics equal those of a slow count."""
    expected = np.stack([count_slowly(evaluated, key) for key in KEYS])
    out = evaluated / "out"
    with np.load(out / "confusions.npz") as arrays:
        np.testing.assert_array_equal(expected, arrays["confusions"])
        assert KEYS == arrays["frames"].tolist()
        assert "val3/official/32x64/whole/ss/last" == str(arrays["protocol"])

    total = expected.sum(axis=0)
    iou = np.diag(total) / (total.sum(0) + total.sum(1) - np.diag(total))
    metrics = json.loads((out / "metrics.json").read_text())
    assert round(float(np.nanmean(iou)), 6) == metrics["miou"]
    assert round(float(np.trace(total) / total.sum()), 6) == metrics["pixel_accuracy"]
    assert "val3/official/32x64/whole/ss/last" == metrics["protocol"]
    np.testing.assert_allclose(pd.read_csv(out / "per_class.csv")["iou"], iou, atol=1e-6)

    per_image = pd.read_csv(out / "per_image.csv")
    assert KEYS == per_image["frame"].tolist()
    ranked = per_image.sort_values("miou")["frame"].str.split("/").str[-1].tolist()
    panels = sorted(path.name for path in (out / "panels").iterdir())
    assert [f"typical_01_{ranked[1]}.png", f"worst_01_{ranked[0]}.png"] == panels
    written = {"metrics.json", "per_class.csv", "per_image.csv", "calibration.csv"}
    written |= {"confusions.npz", "counts.npz", "confusion.png", "per_class.png"}
    written |= {"reliability.png", "frequency_iou.png", "panels", "predictions", "robustness"}
    assert written == {path.name for path in out.iterdir()}


@pytest.mark.parametrize("name", ["per_class", "per_image", "calibration"])
def test_every_table_has_the_protocol(name: str, evaluated: Path) -> None:
    """The first column of a table is the protocol."""
    table = pd.read_csv(evaluated / "out" / f"{name}.csv")
    assert "protocol" == table.columns[0]
    assert ["val3/official/32x64/whole/ss/last"] == table["protocol"].unique().tolist()


def softmax_at_label_size(data: Path, key: str) -> Tensor:
    """Compute (1, 19, 40, 72), the softmax of the scores at the size of the labels."""
    photograph = np.asarray(Image.open(data / "tree" / member_name(key, IMAGE)))
    image = normalize(torch.tensor(resize_image(photograph, PARAMS.size))[None])
    model = load(data / "ce-0")
    with eval_mode(model):
        return resize_scores(model(image), SIZE).softmax(1)


def test_calibration_is_that_of_the_softmax_at_label_size(evaluated: Path) -> None:
    """Calibration error and table are computed from all pixels together, bin by bin."""
    confidences, correct = [], []
    for key in KEYS:
        confidence_map, predicted = softmax_at_label_size(evaluated, key).max(1)
        truth = torch.tensor(
            np.asarray(Image.open(evaluated / "tree" / member_name(key, TRAIN_IDS)))
        )
        is_labeled = truth != IGNORE
        confidences.append(confidence_map[0][is_labeled])
        correct.append((predicted[0] == truth)[is_labeled])
    confidence, hits = torch.cat(confidences).double(), torch.cat(correct).double()
    bins = (confidence * 15).ceil().long() - 1
    table = pd.read_csv(evaluated / "out" / "calibration.csv")
    pixels = bins.bincount(minlength=15)
    assert abs(pixels.numpy() - table["pixels"]).max() <= 2  # rounding at the edges of bins
    gaps = [abs(float((hits - confidence)[bins == i].sum())) for i in range(15)]
    metrics = json.loads((evaluated / "out" / "metrics.json").read_text())
    assert metrics["ece"] == pytest.approx(sum(gaps) / len(hits), abs=2e-4)


def test_official_script_agrees_with_the_stage(evaluated: Path) -> None:
    """The official check reads the files of the stage and agrees in all 44 scores."""
    truth = evaluated / "tree"
    report = script.compare_with_script(
        evaluated / "out", ground_truth=truth, notify=lambda line: None
    )
    assert "equal to the official script in all 44 scores" in report


def test_windows_flip_scales_and_corruptions_are_applied(evaluated: Path, data: Path) -> None:
    """Frames are predicted as the protocol says, and corrupted frames are scored as well."""
    changes = {"mode": "slide", "size": None, "flip": True, "scales": (1.0, 1.5), "worst": 0}
    changes |= {"typical": 0, "corruptions": ("brightness",)}
    result = evaluate(data, PARAMS.model_copy(update=changes))
    assert "val3/official/40x72/slide29x40+20x30/ms1.0,1.5+flip/last" == result.protocol
    sliding, whole = (
        Scores.load(folder / "out" / "confusions.npz").confusions for folder in (data, evaluated)
    )
    assert (sliding.sum(axis=(1, 2)) == whole.sum(axis=(1, 2))).all()
    assert (sliding != whole).any()
    assert [] == list((data / "out" / "panels").iterdir())
    assert ["frames.csv"] == [path.name for path in (data / "out" / "predictions").iterdir()]
    table = pd.read_csv(data / "out" / "robustness" / "robustness.csv")
    assert [result.protocol] == table["protocol"].unique().tolist()
    assert ["brightness", "all"] == table["corruption"].tolist()
    assert table.filter(like="severity").notna().all().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": [30, 30]}, "leaves gaps between windows"),
        ({"scales": []}, "evaluate.scales"),
        ({"scales": [1.0, 1.0]}, "scales contains a duplicate"),
        ({"scales": [0.0]}, "greater than 0"),
        ({"scales": [0.001]}, "0.001 of 32x64 is 0x0, but the network needs 29"),
        ({"corruptions": ["fogg"]}, "evaluate.corruptions"),
        ({"mode": "slid"}, "'whole' or 'slide'"),
    ],
)
def test_invalid_settings_are_refused(change: dict, message: str) -> None:
    """Invalid settings are refused by the section, with the parameter's name."""
    section, problems = Evaluate.parse("evaluate", PARAMS.model_dump(mode="json") | change)
    assert section is None
    assert message in problems[0]


def test_frames_too_small_for_a_scale_are_refused(data: Path) -> None:
    """With the frames' own size this is checked before the first prediction."""
    params = PARAMS.model_copy(update={"size": None, "scales": (0.5,)})
    with pytest.raises(ValueError, match=r"0\.5 of 40x72 is 20x36"):
        evaluate(data, params)


def test_protocol_names_averaged_weights(data: Path) -> None:
    """The protocol of a model with averaged weights ends with `ema`."""
    save(load(data / "ce-0"), data / "ce-0", ema_decay=0.999)
    result = evaluate(data, PARAMS.model_copy(update={"worst": 0, "typical": 0}))
    assert "val3/official/32x64/whole/ss/ema" == result.protocol


def test_unreadable_photograph_is_refused(data: Path) -> None:
    """A damaged picture stops the stage with its name, and no partial result is left."""
    (data / "tree" / member_name(KEYS[2], IMAGE)).write_bytes(b"no picture")
    with pytest.raises(ValueError, match="avalon_000002_000019_leftImg8bit"):
        evaluate(data)
    assert [] == [path.name for path in data.iterdir() if path.name.startswith("out")]


def test_missing_photograph_is_refused(data: Path) -> None:
    """A frame without photograph stops the stage with the name of the picture."""
    (data / "tree" / member_name(KEYS[1], IMAGE)).unlink()
    with pytest.raises(ValueError, match=r"avalon_000001_000019_leftImg8bit\.png is missing"):
        evaluate(data)


def test_model_with_other_classes_is_refused(data: Path) -> None:
    """A model with another number of classes is refused before anything is predicted."""
    save(SegFormer("b0", num_classes=5, decoder_width=16), data / "ce-0")
    with pytest.raises(ValueError, match="the model has 5 classes"):
        evaluate(data)
