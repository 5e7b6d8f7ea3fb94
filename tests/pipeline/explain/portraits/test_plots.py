"""pipeline.explain.portraits.plots: the figures of the head portraits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.explain.portraits.lift_scale import format_lift
from pipeline.explain.portraits.plots import plot_lift, plot_reach
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES, palette
from tests.pipeline.explain.portraits.records import make_portraits

LABELS = {"arm": "ce-1", "protocol": "val12/official/32x64/whole/ss/last"}


@pytest.fixture
def lift() -> np.ndarray:
    """(8, 19) lifts; no frame has a train."""
    lift = np.geomspace(0.05, 20, 8 * NUM_CLASSES).reshape(8, NUM_CLASSES)
    lift[:, CLASS_NAMES.index("train")] = np.nan
    return lift


@pytest.mark.parametrize(
    ("expected", "value"),
    [("12", 12.3), ("10", 9.96), ("3.2", 3.21), ("1.1", 1.1), ("1.02", 1.02), (".45", 0.45)],
)
def test_lift_in_a_cell(expected: str, value: float) -> None:
    """Large lifts have no decimals, those near 1 and below have two."""
    assert expected == format_lift(value)


def test_figures_are_reproducible(lift: np.ndarray, tmp_path: Path) -> None:
    """The same portraits give the same bytes."""
    lift[:, 3:] = np.nan  # fewer classes are faster to draw
    for plot in (plot_lift, plot_reach):
        for name in ("first.png", "second.png"):
            plot(make_portraits(lift), **LABELS, path=tmp_path / name)
        first, second = ((tmp_path / name).read_bytes() for name in ("first.png", "second.png"))
        assert first == second


def test_lift_keeps_the_colors_of_the_classes(lift: np.ndarray, tmp_path: Path) -> None:
    """With 256 colors, white and the color of each class that occurs are exact."""
    plot_lift(make_portraits(lift[:2]), **LABELS, path=tmp_path / "lift.png")
    picture = Image.open(tmp_path / "lift.png")
    assert "P" == picture.mode
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    colors = {tuple(color) for color in np.unique(pixels, axis=0).tolist()}
    assert (255, 255, 255) in colors
    for name, color in zip(CLASS_NAMES, palette().tolist(), strict=False):
        assert (name != "train") == (tuple(color) in colors), name
