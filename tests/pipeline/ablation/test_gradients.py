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
    """The output folder of `gradients`, for two losses and two seeds."""
    write_gradients(tmp_path, ["ce", "dice"], [0, 1])
    return tmp_path


def test_shares_by_hand(folder: Path) -> None:
    """If gradients are proportional to the pixels, so are the classes' shares."""
    summary = read_gradients(folder, ["ce", "dice"]).summaries["start", "ce"]
    np.testing.assert_allclose(CLASS_SHARES / CLASS_SHARES.sum(), summary.logit_share)
    np.testing.assert_allclose(CLASS_SHARES / CLASS_SHARES.sum(), summary.layer_share[:, 2])
    is_rare = np.arange(NUM_CLASSES) >= 10
    assert CLASS_SHARES[10:].sum() / CLASS_SHARES.sum() == pytest.approx(
        summary.rare_logit_share(is_rare)
    )
    np.testing.assert_allclose(summary.rare_logit_share(is_rare), summary.rare_layer_share(is_rare))


def test_measures_by_hand(folder: Path) -> None:
    """Half the gradient from the quarter of pixels that is wrong: an error focus of 2."""
    gradients = read_gradients(folder, ["ce", "dice"])
    summary = gradients.summaries["dice", "ce"]
    assert (2.0, 0.2) == (pytest.approx(summary.error_focus), pytest.approx(summary.batch_cosine))
    # A class's norms are (1, 2, ... 6) times its share, the total's half the sum at every layer.
    expected = 0.5 * np.sqrt(6) / np.sqrt(91)
    assert expected == pytest.approx(summary.class_alignment)
    assert ("start", ["ce", "dice"], 2, 4) == (
        gradients.initial_weights,
        gradients.trained_weights,
        gradients.num_seeds,
        gradients.num_frames,
    )
    assert list(LAYERS) == gradients.layers


def test_table_has_norms_beside_shares(folder: Path) -> None:
    """The table has the norm of a class's gradient at a group of layers, too."""
    table = build_share_table(read_gradients(folder, ["ce", "dice"]))
    rows = table[(table["weights"] == "dice") & (table["loss"] == "ce")]
    np.testing.assert_allclose(3 * CLASS_SHARES, rows[f"length_{LAYERS[2]}"])


def test_absent_classes_have_no_share(folder: Path) -> None:
    """A class without pixels is nan, and the other classes' shares sum to 1."""
    classes = pd.read_csv(folder / "classes.csv")
    classes.loc[classes["class"] == "train", ["scores", *LAYERS]] = np.nan
    classes.to_csv(folder / "classes.csv", index=False)
    table = build_share_table(read_gradients(folder, ["ce", "dice"]))
    assert table.loc[table["class"] == "train", ["scores", *LAYERS]].isna().all(axis=None)
    sums = table.groupby(["weights", "loss"])[["scores", *LAYERS]].sum()
    np.testing.assert_allclose(sums, 1)


def test_tables_of_other_losses_are_refused(folder: Path) -> None:
    """If the tables have a loss more or less, the error names the command that repeats them."""
    for losses in (["ce"], ["ce", "dice", "focal"]):
        with pytest.raises(ValueError, match="has other losses: run `dvc repro gradients`"):
            read_gradients(folder, losses)


def test_missing_tables_are_named(tmp_path: Path) -> None:
    """The error names a missing file or column and the command that creates it."""
    with pytest.raises(ValueError, match=r"classes.csv is missing: run `dvc repro gradients`"):
        read_gradients(tmp_path, ["ce"])
    write_gradients(tmp_path, ["ce"], [0])
    table = pd.read_csv(tmp_path / "batches.csv")
    table.drop(columns="steadiness").to_csv(tmp_path / "batches.csv", index=False)
    with pytest.raises(ValueError, match=r"batches.csv has no column steadiness"):
        read_gradients(tmp_path, ["ce"])
