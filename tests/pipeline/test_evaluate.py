import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.archive import IMAGE, TRAIN_IDS, member_name
from pipeline.stages.evaluate import Evaluate, Evaluation, run
from segformer import SegFormer, load, save
from segformer.cityscapes import IGNORE
from segformer.inference import segment
from segformer.resize import resize_image
from tests.pipeline.conftest import save_png

KEYS = [f"val/avalon/avalon_{i:06}_000019" for i in range(3)]
SIZE = (40, 72)
PARAMS = Evaluate(size=(32, 64), worst=2, bootstrap=50, seed=0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three frames of 40 x 72 pixels, a frame used for training, and an untrained model."""
    rng = np.random.default_rng(0)
    for key in KEYS:
        photograph = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        save_png(tmp_path / "tree" / member_name(key, IMAGE), photograph)
        truth = rng.integers(0, 21, SIZE, dtype=np.uint8)
        truth[truth > 18] = IGNORE
        save_png(tmp_path / "tree" / member_name(key, TRAIN_IDS), truth)
    rows = [[key, "val", "avalon", *SIZE] for key in KEYS]
    rows.append(["train/camelot/camelot_000000_000019", "train", "camelot", *SIZE])
    table = pd.DataFrame(rows, columns=["frame", "split", "city", "rows", "columns"])
    table.to_csv(tmp_path / "frames.csv", index=False)
    torch.manual_seed(0)
    save(SegFormer("b0", decoder_width=16), tmp_path / "ce-0")
    return tmp_path


def evaluate(data: Path, params: Evaluate = PARAMS) -> Evaluation:
    """Run the stage."""
    return run(
        params,
        model=data / "ce-0",
        images=data / "tree",
        labels=data / "tree",
        frames=data / "frames.csv",
        split_rule="official",
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


def test_whole_stage_equals_counting_by_hand(data: Path) -> None:
    """Every file is there, and confusions, tables and metrics are those of a slow count."""
    expected = np.stack([slow_confusion(data, key) for key in KEYS])
    result = evaluate(data)
    out = data / "out"
    with np.load(out / "confusions.npz") as held:
        np.testing.assert_array_equal(expected, held["confusions"])
        assert KEYS == held["frames"].tolist()
        assert "val3/official/32x64/whole/ss/last" == str(held["protocol"])

    total = expected.sum(axis=0)
    iou = np.diag(total) / (total.sum(0) + total.sum(1) - np.diag(total))
    metrics = json.loads((out / "metrics.json").read_text())
    assert round(float(np.nanmean(iou)), 6) == metrics["miou"] == result.metrics["miou"]
    assert round(float(np.trace(total) / total.sum()), 6) == metrics["pixel_accuracy"]
    assert {"protocol": result.protocol, **result.metrics} == metrics
    np.testing.assert_allclose(pd.read_csv(out / "per_class.csv")["iou"], iou, atol=1e-6)

    per_image = pd.read_csv(out / "per_image.csv")
    assert KEYS == per_image["frame"].tolist()
    worst = per_image.sort_values("miou")["frame"].str.split("/").str[-1].tolist()[:2]
    shown = sorted(path.name for path in (out / "panels").iterdir())
    assert [f"01_{worst[0]}.png", f"02_{worst[1]}.png"] == shown
    expected_files = {"metrics.json", "per_class.csv", "per_image.csv", "confusions.npz"}
    expected_files |= {"confusion.png", "per_class.png", "panels"}
    assert expected_files == {path.name for path in out.iterdir()}


def test_own_size_is_in_the_protocol(data: Path) -> None:
    """With no size given the network sees the frame's own, and the protocol says which that is."""
    result = evaluate(data, PARAMS.model_copy(update={"size": None, "worst": 0}))
    assert "val3/official/40x72/whole/ss/last" == result.protocol
    assert [] == list((data / "out" / "panels").iterdir())


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


def test_no_validation_frame(data: Path) -> None:
    """A table without validation frames is refused."""
    table = pd.read_csv(data / "frames.csv")
    table[table["split"] == "train"].to_csv(data / "frames.csv", index=False)
    with pytest.raises(ValueError, match=r"frames\.csv: no frame is of the split test or val"):
        evaluate(data)


def test_the_final_number_comes_from_the_split_test(data: Path) -> None:
    """Frames that are kept for the final number are scored alone, and the protocol says so."""
    table = pd.read_csv(data / "frames.csv")
    table["split"] = ["val", "test", "test", "train"]
    table.to_csv(data / "frames.csv", index=False)
    assert "test2/official/32x64/whole/ss/last" == evaluate(data).protocol


def test_model_of_other_classes(data: Path) -> None:
    """A model with another number of classes is refused before anything is predicted."""
    save(SegFormer("b0", num_classes=5, decoder_width=16), data / "ce-0")
    with pytest.raises(ValueError, match="knows 5 classes"):
        evaluate(data)
