"""pipeline.dataset.class_plot: the figure of class frequencies."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset import official_counts
from pipeline.dataset.class_plot import plot_class_frequency
from pipeline.stages.frequency import label_frequency
from segformer.cityscapes import CLASSES, LABELS


def draw_frequency(path: Path, pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: the figure of one frame with the given pixels per label id."""
    plot_class_frequency(label_frequency(pixels[None]), 1, path)
    return np.asarray(Image.open(path).convert("RGB"))


def count_pixels(image: np.ndarray, color: tuple[int, int, int]) -> int:
    """The number of pixels of the image that have exactly this color."""
    return int((image == color).all(axis=-1).sum())


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The figure of the published training set."""
    return draw_frequency(
        tmp_path_factory.mktemp("chart") / "a.png", np.array(official_counts.OFFICIAL_PIXELS)
    )


def test_every_class_has_a_bar_in_its_color(official: np.ndarray) -> None:
    """Each of the 19 classes has an area in its official color."""
    for label in CLASSES:
        assert count_pixels(official, label.color) > 500, label.name


def test_axis_is_logarithmic(official: np.ndarray) -> None:
    """Road has 89 times the pixels of train, but its bar is less than three times as large."""
    road, train = (count_pixels(official, CLASSES[i].color) for i in (0, 16))
    assert 1 < road / train < 3


def test_unscored_labels_are_pale(official: np.ndarray) -> None:
    """Parking occurs, but no bar has its full color."""
    assert count_pixels(official, LABELS[9].color) < 100


def test_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    """A figure in Git changes only when the counts change."""
    for name in ("a.png", "b.png"):
        draw_frequency(tmp_path / name, np.arange(34))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("ids", [[7], [7, 32], [0, 7]])
def test_absent_classes_have_no_bar(tmp_path: Path, ids: list[int]) -> None:
    """With only one class the figure is drawn without a warning, and the others have no bar."""
    pixels = np.zeros(34, dtype=np.int64)
    pixels[ids] = 1
    image = draw_frequency(tmp_path / "a.png", pixels)
    assert count_pixels(image, LABELS[7].color) > 500
    assert count_pixels(image, LABELS[21].color) < 100
