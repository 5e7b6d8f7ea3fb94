"""Portraits of a plain ViT's heads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.explain.cls_explainer import ClsExplainer
from pipeline.explain.portraits.plain_vit import measure_cls_heads, write_portraits
from segformer.cityscapes import CLASS_NAMES, IGNORE
from segformer.vit.model import VisionTransformer
from segformer.vit.variants import VitVariant

ROAD, SKY = CLASS_NAMES.index("road"), CLASS_NAMES.index("sky")


@pytest.fixture(scope="module")
def explainer() -> ClsExplainer:
    """Of a tiny network with random weights and attention far from uniform."""
    torch.manual_seed(0)
    network = VisionTransformer(VitVariant("tiny", patch=8, width=16, depth=2, heads=2))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return ClsExplainer("tiny", network)


@pytest.fixture(scope="module")
def frames() -> list[tuple[np.ndarray, np.ndarray]]:
    """Four photographs of 16 x 32 pixels; the sky is above the road, one quarter is void."""
    rng = np.random.default_rng(0)
    classes = np.full((16, 32), ROAD, np.uint8)
    classes[:8] = SKY
    classes[8:, :16] = IGNORE
    return [(rng.integers(0, 256, (16, 32, 3), dtype=np.uint8), classes) for _ in range(4)]


def test_lift_is_the_ratio_of_means_over_frames(
    explainer: ClsExplainer, frames: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Two of three labeled rows of patches are sky: its share of the attention over 2 / 3."""
    portraits = measure_cls_heads(explainer, frames)
    expected = np.zeros(2)
    for photograph, _ in frames:
        weights = explainer.compute_weights(photograph)  # (2, 2, 4)
        sky, road = weights[:, 0].sum(1), weights[:, 1, 2:].sum(1)
        expected += sky / (sky + road) / len(frames)
    np.testing.assert_allclose(expected / (2 / 3), portraits.lift.value[:, SKY], rtol=1e-5)
    assert ["stage 0, block 1, head 0", "stage 0, block 1, head 1"] == list(
        map(str, portraits.heads)
    )
    assert np.isnan(portraits.distance.value).all()
    assert np.isnan(portraits.position_lift).all()


def test_tables_and_figure_are_written(
    explainer: ClsExplainer, frames: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path
) -> None:
    """lift.csv has a row per head and class that occurs; the sentence names the model."""
    portraits = measure_cls_heads(explainer, frames)
    sentence = write_portraits(
        portraits, name="tiny", classes_from="labels.zip", out=tmp_path / "portraits"
    )
    table = pd.read_csv(tmp_path / "portraits" / "lift.csv")
    assert [("road", 0), ("sky", 0), ("road", 1), ("sky", 1)] == list(
        zip(table["class"], table["head"], strict=True)
    )
    assert sentence.startswith("tiny: ")
    assert 2 == len(pd.read_csv(tmp_path / "portraits" / "heads.csv"))
    assert (tmp_path / "portraits" / "lift.png").read_bytes().startswith(b"\x89PNG")


def test_no_frame_is_refused(explainer: ClsExplainer) -> None:
    """Without a frame there is nothing to measure."""
    with pytest.raises(ValueError, match="no frame was measured"):
        measure_cls_heads(explainer, [])
