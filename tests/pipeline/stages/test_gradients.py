from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.params.gradients import Gradients
from pipeline.stages.gradients import (
    START,
    ArmSelection,
    GradientInputs,
    load_initial_model,
    measure_gradients,
)
from pipeline.training.setup import derive_seeds
from segformer.cityscapes import CLASS_NAMES, IGNORE
from segformer.data.packed_frames import create
from segformer.explain.class_gradients import LAYERS
from segformer.model.segformer import SegFormer
from segformer.weights.checkpoint import save


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five frames of noise, labeled road, car and void, and untrained models of two arms."""
    rng = np.random.default_rng(0)
    names = [f"train/{i}" for i in range(5)]
    with create(tmp_path / "pack" / "train", names, (32, 40)) as (images, labels):
        images[:] = rng.integers(0, 256, images.shape)
        labels[:] = rng.choice(np.array([0, 13, IGNORE], dtype=np.uint8), labels.shape)
    for seed, loss in enumerate(("ce", "dice")):
        torch.manual_seed(seed)
        folder = tmp_path / "train" / f"{loss}-7"
        save(SegFormer("b0", decoder_width=8), folder)
        (folder / "run.json").write_text('{"steps": 40}')
    (tmp_path / "pretrained").mkdir()
    return tmp_path


def measure(data: Path, frames: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the stage and return both tables."""
    measure_gradients(
        Gradients(frames=frames, seeds=1),
        arms=ArmSelection(["ce", "dice"], [7, 8], "enet"),
        inputs=GradientInputs(
            data / "train", data / "pack", data / "pretrained", data / "class_weights.csv"
        ),
        out=data / "out",
        device=torch.device("cpu"),
        progress=lambda done, total: None,
    )
    return pd.read_csv(data / "out" / "classes.csv"), pd.read_csv(data / "out" / "batches.csv")


def test_every_loss_is_measured_at_the_same_weights(data: Path) -> None:
    """Both losses are measured at the start and the end of each arm, with the same wrong pixels."""
    classes, batches = measure(data)
    arm_weights = [(START, 0), ("ce", 40), ("dice", 40)]
    expected = [
        (weights, 7, step, loss) for weights, step in arm_weights for loss in ("ce", "dice")
    ]
    columns = ["weights", "seed", "step", "loss"]
    assert expected == list(batches[columns].itertuples(index=False, name=None))
    assert len(expected) * len(CLASS_NAMES) == len(classes)
    assert set(LAYERS) <= set(classes.columns) & set(batches.columns)
    wrong = batches["wrong"].to_numpy().reshape(3, 2)
    np.testing.assert_array_equal(wrong[:, 0], wrong[:, 1])
    assert 2 == batches["frames"].iloc[0]


def test_only_present_classes_have_gradients(data: Path) -> None:
    """Road and car have values above 0, absent classes have none."""
    classes, _ = measure(data)
    is_present = classes["class"].isin(["road", "car"])
    columns = ["scores", *LAYERS]
    assert (classes.loc[is_present, columns] > 0).all(axis=None)
    assert classes.loc[~is_present, columns].isna().all(axis=None)


def test_tables_are_reproducible(data: Path) -> None:
    """Two runs write the same bytes, without dropout and drop path."""
    measure(data)
    first = {path.name: path.read_bytes() for path in (data / "out").iterdir()}
    measure(data)
    assert first == {path.name: path.read_bytes() for path in (data / "out").iterdir()}


def test_more_frames_requested_than_exist(data: Path) -> None:
    """Five frames make two batches of two, even if more are requested."""
    _, batches = measure(data, frames=50)
    assert 2 == batches["frames"].iloc[0]
    assert batches["steadiness"].between(-1, 1).all()


def test_initial_model_depends_on_the_seed_only(data: Path) -> None:
    """The weights before the first step depend on the arm's seed, not on its loss."""
    ce, dice = (
        load_initial_model(data / "train" / f"{loss}-7", 7, data) for loss in ("ce", "dice")
    )
    torch.manual_seed(derive_seeds(7)[0])
    expected = SegFormer("b0", decoder_width=8).state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(tensor, ce.state_dict()[name], rtol=0, atol=0)
        torch.testing.assert_close(tensor, dice.state_dict()[name], rtol=0, atol=0)
