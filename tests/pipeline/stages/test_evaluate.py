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


def make(tmp_path: Path) -> Path:
    """Three frames of 40 x 72 pixels, a frame used for training, and an untrained model.

    Cars and persons, of which only every other one is told apart.
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
        single = np.isin(label_ids, (24, 26)) & (np.arange(SIZE[1]) % 16 < 8)
        instances = np.where(single, label_ids * 1000 + np.arange(SIZE[1]) // 16, label_ids)
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
    """A folder of its own."""
    return make(tmp_path)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `out` is the result, with predictions; for reading only."""
    folder = make(tmp_path_factory.mktemp("evaluated"))
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


def slow_confusion(data: Path, key: str) -> np.ndarray:
    """Count pixel by pixel what the model makes of one frame."""
    photograph = np.asarray(Image.open(data / "tree" / member_name(key, IMAGE)))
    truth = np.asarray(Image.open(data / "tree" / member_name(key, TRAIN_IDS)))
    seen = torch.tensor(resize_image(photograph, PARAMS.size))[None]
    model = load(data / "ce-0")
    predicted = segment(model, seen, input_size=PARAMS.size, output_size=SIZE)[0].numpy()
    counts = np.zeros((19, 19), dtype=np.int64)
    for true, said in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if true != IGNORE:
            counts[true, said] += 1
    return counts


def test_whole_stage_equals_counting_by_hand(evaluated: Path) -> None:
    """Every file is there, and confusions, tables and metrics are those of a slow count."""
    expected = np.stack([slow_confusion(evaluated, key) for key in KEYS])
    out = evaluated / "out"
    with np.load(out / "confusions.npz") as held:
        np.testing.assert_array_equal(expected, held["confusions"])
        assert KEYS == held["frames"].tolist()
        assert "val3/official/32x64/whole/ss/last" == str(held["protocol"])

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
    shown = sorted(path.name for path in (out / "panels").iterdir())
    assert [f"typical_01_{ranked[1]}.png", f"worst_01_{ranked[0]}.png"] == shown
    written = {"metrics.json", "per_class.csv", "per_image.csv", "calibration.csv"}
    written |= {"confusions.npz", "counts.npz", "confusion.png", "per_class.png"}
    written |= {"reliability.png", "frequency_iou.png", "panels", "predictions", "robustness"}
    assert written == {path.name for path in out.iterdir()}


@pytest.mark.parametrize("name", ["per_class", "per_image", "calibration"])
def test_every_table_says_how_it_was_measured(name: str, evaluated: Path) -> None:
    """Its first column is the protocol, in every row."""
    table = pd.read_csv(evaluated / "out" / f"{name}.csv")
    assert "protocol" == table.columns[0]
    assert ["val3/official/32x64/whole/ss/last"] == table["protocol"].unique().tolist()


def seen_slowly(data: Path, key: str) -> Tensor:
    """(1, 19, 40, 72) softmax of the scores at the label's size."""
    photograph = np.asarray(Image.open(data / "tree" / member_name(key, IMAGE)))
    seen = normalize(torch.tensor(resize_image(photograph, PARAMS.size))[None])
    model = load(data / "ce-0")
    with eval_mode(model):
        return resize_scores(model(seen), SIZE).softmax(1)


def test_calibration_is_that_of_the_softmax_at_the_labels_size(evaluated: Path) -> None:
    """The error and its table are those of all pixels together, bin by bin."""
    sure, right = [], []
    for key in KEYS:
        largest, found = seen_slowly(evaluated, key).max(1)
        truth = torch.tensor(
            np.asarray(Image.open(evaluated / "tree" / member_name(key, TRAIN_IDS)))
        )
        labelled = truth != IGNORE
        sure.append(largest[0][labelled])
        right.append((found[0] == truth)[labelled])
    confidence, hits = torch.cat(sure).double(), torch.cat(right).double()
    bins = (confidence * 15).ceil().long() - 1
    table = pd.read_csv(evaluated / "out" / "calibration.csv")
    pixels = bins.bincount(minlength=15)
    assert abs(pixels.numpy() - table["pixels"]).max() <= 2  # rounding, at a bin's edge
    gaps = [abs(float((hits - confidence)[bins == i].sum())) for i in range(15)]
    metrics = json.loads((evaluated / "out" / "metrics.json").read_text())
    assert metrics["ece"] == pytest.approx(sum(gaps) / len(hits), abs=2e-4)


def test_the_official_script_agrees_on_the_predictions_kept(evaluated: Path) -> None:
    """What the stage wrote is all that the check needs, and it agrees in all 44 scores."""
    truth = evaluated / "tree"
    said = script.compare_with_script(
        evaluated / "out", ground_truth=truth, notify=lambda line: None
    )
    assert "equal to the official script in all 44 scores" in said


def test_windows_mirror_scales_and_corruptions_are_applied(evaluated: Path, data: Path) -> None:
    """Frames are seen as the protocol says, and spoiled ones are scored beside them."""
    changes = {"mode": "slide", "size": None, "flip": True, "scales": (1.0, 1.5), "worst": 0}
    changes |= {"typical": 0, "corruptions": ("brightness",)}
    result = evaluate(data, PARAMS.model_copy(update=changes))
    assert "val3/official/40x72/slide29x40+20x30/ms1.0,1.5+flip/last" == result.protocol
    slid, whole = (
        Scores.load(folder / "out" / "confusions.npz").confusions for folder in (data, evaluated)
    )
    assert (slid.sum(axis=(1, 2)) == whole.sum(axis=(1, 2))).all()
    assert (slid != whole).any()
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
def test_impossible_ways_of_showing_are_refused(change: dict, message: str) -> None:
    """Before any work, with the parameter's name."""
    section, mistakes = Evaluate.parse("evaluate", PARAMS.model_dump(mode="json") | change)
    assert section is None
    assert message in mistakes[0]


def test_frames_too_small_for_a_scale_are_refused(data: Path) -> None:
    """With the frames' own size it is known only once they are: before any is predicted."""
    params = PARAMS.model_copy(update={"size": None, "scales": (0.5,)})
    with pytest.raises(ValueError, match=r"0\.5 of 40x72 is 20x36"):
        evaluate(data, params)


def test_an_average_of_weights_is_told_from_the_last(data: Path) -> None:
    """The protocol says which weights of its training the model has."""
    save(load(data / "ce-0"), data / "ce-0", ema_decay=0.999)
    result = evaluate(data, PARAMS.model_copy(update={"worst": 0, "typical": 0}))
    assert "val3/official/32x64/whole/ss/ema" == result.protocol


def test_unreadable_photograph_is_named_and_nothing_is_left(data: Path) -> None:
    """A damaged picture stops the stage with its name, and no result is half-written."""
    (data / "tree" / member_name(KEYS[2], IMAGE)).write_bytes(b"no picture")
    with pytest.raises(ValueError, match="avalon_000002_000019_leftImg8bit"):
        evaluate(data)
    assert [] == [path.name for path in data.iterdir() if path.name.startswith("out")]


def test_missing_photograph_is_named(data: Path) -> None:
    """A frame in the table and not among the pictures stops the stage with the picture's name."""
    (data / "tree" / member_name(KEYS[1], IMAGE)).unlink()
    with pytest.raises(ValueError, match=r"avalon_000001_000019_leftImg8bit\.png is missing"):
        evaluate(data)


def test_model_of_other_classes(data: Path) -> None:
    """A model with another number of classes is refused before anything is predicted."""
    save(SegFormer("b0", num_classes=5, decoder_width=16), data / "ce-0")
    with pytest.raises(ValueError, match="the model has 5 classes"):
        evaluate(data)
