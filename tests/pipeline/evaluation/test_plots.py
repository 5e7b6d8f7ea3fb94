from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.plots import (
    plot_class_iou,
    plot_confusion,
    plot_frequency_iou,
    plot_reliability,
)
from pipeline.evaluation.scores import Scores
from segformer.cityscapes import CLASSES
from tests.fakes.score_factory import PROTOCOL, make_scores

EMPTY = Scores(PROTOCOL, ["a"], np.zeros((1, 19, 19), dtype=np.int64))
RELIABLE = np.array([[0, 0, 0], [100, 60.0, 50], [1000, 900.0, 950], [1, 0.7, 0]])


def rarity(scores: Scores, path: Path) -> None:
    """Class frequency against IoU."""
    plot_frequency_iou(scores.per_class(), name="ce-0", protocol=PROTOCOL, path=path)


CHARTS: dict[str, Callable[[Scores, Path], None]] = {
    "confusion": lambda scores, path: plot_confusion(scores, "ce-0", path),
    "class_iou": lambda scores, path: plot_class_iou(scores, "ce-0", scores.metrics(9, 0), path),
    "rarity": rarity,
}


@pytest.mark.parametrize(("chart", "least"), [("class_iou", 500), ("rarity", 40)])
def test_every_class_has_its_colour(chart: str, least: int, tmp_path: Path) -> None:
    """A bar, or a point, of the official colour stands for each of the 19 classes."""
    CHARTS[chart](make_scores(0.7, noise=0), tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for label in CLASSES:
        assert least < (picture == label.color).all(axis=-1).sum(), label.name


def test_diagonal_of_the_confusion_is_dark_and_the_rest_pale(tmp_path: Path) -> None:
    """Of a model that is always right a nineteenth of the square is the darkest blue."""
    plot_confusion(make_scores(1.0, noise=0, frames=1), "ce-0", tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    dark, pale = (
        (picture == color).all(axis=-1).sum() for color in [(8, 48, 107), (247, 251, 255)]
    )
    assert 18 == pytest.approx(pale / dark, rel=0.2)  # the numbers take some of the dark


@pytest.mark.parametrize("chart", CHARTS)
def test_chart_of_nothing_is_drawn(chart: str, tmp_path: Path) -> None:
    """Where no pixel is labelled there is still a chart (warnings are errors)."""
    CHARTS[chart](EMPTY, tmp_path / "empty.png")
    with Image.open(tmp_path / "empty.png") as picture:
        assert "PNG" == picture.format


@pytest.mark.parametrize("counts", [RELIABLE, np.zeros((15, 3))], ids=["some", "none"])
def test_reliability_is_drawn(counts: np.ndarray, tmp_path: Path) -> None:
    """Bins too sure, not sure enough and empty are drawn, and so are no pixels at all."""
    plot_reliability(counts, name="ce-0", protocol=PROTOCOL, path=tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for color in [(0xE9, 0x79, 0x6D), (0xF3, 0xC6, 0x77)]:
        # The legend has a patch of each colour whatever is drawn.
        assert (counts.sum() > 0) == ((picture == color).all(axis=-1).sum() > 1000)
