from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.ablation.gradients import build_share_table, read_gradients
from segformer.cityscapes import NUM_CLASSES
from segformer.explain.class_gradients import LAYERS
from tests.fakes.score_factory import CLASS_SHARES, write_gradients


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `gradients` would write of two losses and two seeds."""
    write_gradients(tmp_path, ["ce", "dice"], [0, 1])
    return tmp_path


def test_shares_by_hand(folder: Path) -> None:
    """Where a class pulls by its pixels, its share of the gradient is that of the pixels."""
    pull = read_gradients(folder, ["ce", "dice"]).summaries["start", "ce"]
    np.testing.assert_allclose(CLASS_SHARES / CLASS_SHARES.sum(), pull.logit_share)
    np.testing.assert_allclose(CLASS_SHARES / CLASS_SHARES.sum(), pull.layer_share[:, 2])
    is_rare = np.arange(NUM_CLASSES) >= 10
    assert CLASS_SHARES[10:].sum() / CLASS_SHARES.sum() == pytest.approx(
        pull.rare_logit_share(is_rare)
    )
    np.testing.assert_allclose(pull.rare_logit_share(is_rare), pull.rare_layer_share(is_rare))


def test_readings_by_hand(folder: Path) -> None:
    """Half the pull from a quarter of the pixels: twice as hard as the average."""
    pulls = read_gradients(folder, ["ce", "dice"])
    pull = pulls.summaries["dice", "ce"]
    assert (2.0, 0.2) == (pytest.approx(pull.error_focus), pytest.approx(pull.batch_cosine))
    # Each class sends (1, 2, ... 6) times its share, together it is half the sum at every layer.
    expected = 0.5 * np.sqrt(6) / np.sqrt(91)
    assert expected == pytest.approx(pull.class_alignment)
    assert ("start", ["ce", "dice"], 2, 4) == (
        pulls.initial_weights,
        pulls.trained_weights,
        pulls.num_seeds,
        pulls.num_frames,
    )
    assert list(LAYERS) == pulls.layers


def test_the_table_holds_lengths_beside_shares(folder: Path) -> None:
    """What a class sends to a group of layers stands in the table in its own unit too."""
    table = build_share_table(read_gradients(folder, ["ce", "dice"]))
    one = table[(table["weights"] == "dice") & (table["loss"] == "ce")]
    np.testing.assert_allclose(3 * CLASS_SHARES, one[f"length_{LAYERS[2]}"])


def test_absent_classes_have_no_share(folder: Path) -> None:
    """A class without pixels stays empty, and the others' shares sum to 1."""
    classes = pd.read_csv(folder / "classes.csv")
    classes.loc[classes["class"] == "train", ["scores", *LAYERS]] = np.nan
    classes.to_csv(folder / "classes.csv", index=False)
    table = build_share_table(read_gradients(folder, ["ce", "dice"]))
    assert table.loc[table["class"] == "train", ["scores", *LAYERS]].isna().all(axis=None)
    sums = table.groupby(["weights", "loss"])[["scores", *LAYERS]].sum()
    np.testing.assert_allclose(sums, 1)


def test_tables_of_other_losses_are_refused(folder: Path) -> None:
    """A loss more or less than was measured: repeat the measurement."""
    for losses in (["ce"], ["ce", "dice", "focal"]):
        with pytest.raises(ValueError, match="of other losses: run `dvc repro gradients`"):
            read_gradients(folder, losses)


def test_missing_tables_are_named(tmp_path: Path) -> None:
    """A missing file and a missing column are named with the remedy."""
    with pytest.raises(ValueError, match=r"classes.csv is missing: run `dvc repro gradients`"):
        read_gradients(tmp_path, ["ce"])
    write_gradients(tmp_path, ["ce"], [0])
    table = pd.read_csv(tmp_path / "batches.csv")
    table.drop(columns="steadiness").to_csv(tmp_path / "batches.csv", index=False)
    with pytest.raises(ValueError, match=r"batches.csv has no column steadiness"):
        read_gradients(tmp_path, ["ce"])
