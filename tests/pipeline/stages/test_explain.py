"""The stage `explain` on three small frames and two untrained models."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.dataset.archive import TRAIN_IDS, member_name
from pipeline.params.explain import Explain
from pipeline.stages.explain import ExplainInputs, ExplainResult, explain_best_arm
from segformer.cityscapes import IGNORE
from segformer.data.packed_frames import normalize
from segformer.data.resize import resize_image
from segformer.explain.attention_maps import record_attention
from segformer.inference.settings import InferenceSettings
from segformer.model.segformer import SegFormer
from segformer.weights.checkpoint import load, save
from tests.pipeline.conftest import save_png
from tests.pipeline.stages.test_evaluate import KEYS, make_data

SIZE = (64, 96)
PARAMS = Explain(frames=3, walls=2, query="class:car", stage=2, block=-1, bootstrap=50, seed=0)
TABLES = {"lift.csv", "classes.csv", "heads.csv", "explain.json", "explain.md"}


def make_project(folder: Path) -> Path:
    """Three frames, and two untrained models with scores, of which dice-0 is the better one."""
    make_data(folder)
    torch.manual_seed(1)
    for arm, miou in (("ce-0", 0.2), ("dice-0", 0.3)):
        save(SegFormer("b0", decoder_width=16), folder / "train" / arm)
        (folder / "evaluate" / arm).mkdir(parents=True)
        scores = json.dumps({"miou": miou, "protocol": "val3/official/64x96/whole/ss/last"})
        (folder / "evaluate" / arm / "metrics.json").write_text(scores)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data, in a new folder."""
    return make_project(tmp_path)


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data with the result in `out`; tests must not change it."""
    folder = make_project(tmp_path_factory.mktemp("explained"))
    explain(folder)
    return folder


def explain(data: Path, params: Explain = PARAMS) -> ExplainResult:
    """Run the stage."""
    return explain_best_arm(
        params,
        arms=["ce-0", "dice-0"],
        settings=InferenceSettings(SIZE),
        inputs=ExplainInputs(
            data / "train", data / "evaluate", data / "tree", data / "tree", data / "frames.csv"
        ),
        out=data / "out",
        progress=lambda done, total: None,
    )


def test_all_outputs_name_the_best_arm(explained: Path) -> None:
    """Tables, figures, report and two walls exist; the report has the arm and its protocol."""
    out = explained / "out"
    assert TABLES | {"lift.png", "reach.png", "walls"} == {path.name for path in out.iterdir()}
    assert 2 == len(list((out / "walls").iterdir()))
    facts = json.loads((out / "explain.json").read_text())
    protocol = "val3/official/64x96/whole/ss/last"
    assert ("dice-0", protocol, 3, 32) == tuple(
        facts[name] for name in ("arm", "protocol", "frames", "heads")
    )
    report = (out / "explain.md").read_text()
    assert report.startswith("# Attention heads of dice-0\n")
    assert protocol in report
    for path in (out / "walls").iterdir():
        assert f"](walls/{path.name})" in report


def test_lift_equals_a_count_by_hand(explained: Path) -> None:
    """The lift of every head of a block on roads, from the mean maps and labels pixel by pixel."""
    model = load(explained / "train" / "dice-0")
    attended, share = np.zeros(8), 0.0
    for key in KEYS:
        photograph = np.asarray(
            Image.open(explained / "tree" / f"leftImg8bit/{key}_leftImg8bit.png")
        )
        image = normalize(torch.tensor(resize_image(photograph, SIZE))[None])[0]
        maps = record_attention(model, image).looks_at(None, stage=3, block=1).numpy()
        labels = np.asarray(
            Image.open(explained / "tree" / member_name(key, TRAIN_IDS)).resize(
                SIZE[::-1], Image.Resampling.NEAREST
            )
        )
        weights = maps.repeat(32, axis=1).repeat(32, axis=2)  # of each pixel's key
        is_labeled = labels != IGNORE
        attended += weights[:, labels == 0].sum(axis=1) / weights[:, is_labeled].sum(axis=1)
        share += (labels == 0).sum() / is_labeled.sum()
    table = pd.read_csv(explained / "out" / "lift.csv")
    rows = table.query("stage == 3 and block == 1").query("`class` == 'road'")
    np.testing.assert_allclose(rows["lift"], attended / share, rtol=1e-4)


def test_the_same_inputs_give_the_same_bytes(explained: Path, data: Path) -> None:
    """A second run writes the same files."""
    explain(data)
    first, second = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (explained / "out", data / "out")
    )
    assert first == second


def test_class_without_a_pixel_has_no_walls(data: Path) -> None:
    """If no frame has the class of the query, `walls` is empty and the report says so."""
    for key in KEYS:
        labels = np.zeros((40, 72), np.uint8)
        save_png(data / "tree" / member_name(key, TRAIN_IDS), labels)
    explain(data, PARAMS.model_copy(update={"frames": 1}))
    assert [] == list((data / "out" / "walls").iterdir())
    report = (data / "out" / "explain.md").read_text()
    assert "No measured frame has a pixel of this class in a key" in report


def test_frames_without_a_label_are_left_out(data: Path) -> None:
    """A frame of void pixels alone is not measured."""
    void = np.full((40, 72), IGNORE, np.uint8)
    save_png(data / "tree" / member_name(KEYS[1], TRAIN_IDS), void)
    explain(data, PARAMS.model_copy(update={"walls": 0}))
    assert 2 == json.loads((data / "out" / "explain.json").read_text())["frames"]


def test_block_that_the_network_lacks(data: Path) -> None:
    """The error comes before any frame is read, with the blocks to choose from."""
    params = PARAMS.model_copy(update={"block": 2})
    expected = "explain.block is 2, but stage 2 of b0 has blocks 0 to 1: choose one of them, or -1"
    with pytest.raises(ValueError, match=expected):
        explain(data, params)
    assert not (data / "out").exists()
