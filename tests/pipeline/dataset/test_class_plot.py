from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset import official_counts
from pipeline.dataset.class_plot import plot_class_frequency
from pipeline.stages.frequency import label_frequency
from segformer.cityscapes import CLASSES, LABELS


def drawn(path: Path, pixels: np.ndarray) -> np.ndarray:
    """The chart of one frame with so many pixels of every label id, (h, w, 3) uint8."""
    plot_class_frequency(label_frequency(pixels[None]), 1, path)
    return np.asarray(Image.open(path).convert("RGB"))


def area(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    """How many pixels of the picture have exactly this colour."""
    return int((picture == color).all(axis=-1).sum())


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The chart of the published training set."""
    return drawn(
        tmp_path_factory.mktemp("chart") / "a.png", np.array(official_counts.OFFICIAL_PIXELS)
    )


def test_every_class_has_a_bar_in_its_colour(official: np.ndarray) -> None:
    """Of each of the 19 classes an area is painted in its official colour."""
    for label in CLASSES:
        assert area(official, label.color) > 500, label.name


def test_the_axis_is_logarithmic(official: np.ndarray) -> None:
    """Road is 89 times train, but its bar is far less than ten times as large."""
    road, train = (area(official, CLASSES[i].color) for i in (0, 16))
    assert 1 < road / train < 3


def test_what_is_not_scored_is_pale(official: np.ndarray) -> None:
    """Parking occurs, yet no bar has its full colour."""
    assert area(official, LABELS[9].color) < 100


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    """A chart in Git changes only when the counts do."""
    for name in ("a.png", "b.png"):
        drawn(tmp_path / name, np.arange(34))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("ids", [[7], [7, 32], [0, 7]])
def test_classes_that_never_occur_leave_their_place_empty(tmp_path: Path, ids: list[int]) -> None:
    """With one class only the chart is drawn, without a warning, and the others have no bar."""
    pixels = np.zeros(34, dtype=np.int64)
    pixels[ids] = 1
    picture = drawn(tmp_path / "a.png", pixels)
    assert area(picture, LABELS[7].color) > 500
    assert area(picture, LABELS[21].color) < 100
