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
CALIBRATION_COUNTS = np.array([[0, 0, 0], [100, 60.0, 50], [1000, 900.0, 950], [1, 0.7, 0]])


def plot_frequency(scores: Scores, path: Path) -> None:
    """Plot class frequency and IoU."""
    plot_frequency_iou(scores.per_class(), name="ce-0", protocol=PROTOCOL, path=path)


PLOTS: dict[str, Callable[[Scores, Path], None]] = {
    "confusion": lambda scores, path: plot_confusion(scores, "ce-0", path),
    "class_iou": lambda scores, path: plot_class_iou(scores, "ce-0", scores.metrics(9, 0), path),
    "frequency": plot_frequency,
}


@pytest.mark.parametrize(("plot", "min_pixels"), [("class_iou", 500), ("frequency", 40)])
def test_every_class_has_its_color(plot: str, min_pixels: int, tmp_path: Path) -> None:
    """Each of the 19 classes has a bar, or a point, of its official color."""
    PLOTS[plot](make_scores(0.7, noise=0), tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for label in CLASSES:
        assert min_pixels < (picture == label.color).all(axis=-1).sum(), label.name


def test_diagonal_of_a_perfect_confusion_matrix_is_dark(tmp_path: Path) -> None:
    """For a perfect model one nineteenth of the matrix has the darkest blue."""
    plot_confusion(make_scores(1.0, noise=0, frames=1), "ce-0", tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    dark, pale = (
        (picture == color).all(axis=-1).sum() for color in [(8, 48, 107), (247, 251, 255)]
    )
    assert 18 == pytest.approx(pale / dark, rel=0.2)  # the numbers cover some dark pixels


@pytest.mark.parametrize("plot", PLOTS)
def test_plot_without_labeled_pixels(plot: str, tmp_path: Path) -> None:
    """Without a labeled pixel the plots are drawn without warnings (warnings are errors)."""
    PLOTS[plot](EMPTY, tmp_path / "empty.png")
    with Image.open(tmp_path / "empty.png") as picture:
        assert "PNG" == picture.format


@pytest.mark.parametrize("counts", [CALIBRATION_COUNTS, np.zeros((15, 3))], ids=["some", "none"])
def test_reliability_diagram(counts: np.ndarray, tmp_path: Path) -> None:
    """Overconfident, underconfident and empty bins are drawn, also without any pixels."""
    plot_reliability(counts, name="ce-0", protocol=PROTOCOL, path=tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for color in [(0xE9, 0x79, 0x6D), (0xF3, 0xC6, 0x77)]:
        # The legend always has a small patch of each color.
        assert (counts.sum() > 0) == ((picture == color).all(axis=-1).sum() > 1000)
