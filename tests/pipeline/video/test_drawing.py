import numpy as np
import pytest

from pipeline.video.drawing import OverlayStyle, draw_legend, draw_overlay
from segformer.cityscapes import CLASS_NAMES, palette

RANDOM = np.random.default_rng(0)
PHOTOGRAPH = RANDOM.integers(0, 256, (31, 45, 3), dtype=np.uint8)
CLASSES = RANDOM.integers(0, 19, (31, 45), dtype=np.uint8)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.55, 1.0])
def test_blend(alpha: float) -> None:
    """The overlay is the exact blend of photograph and official color, within one level."""
    exact = (1 - alpha) * PHOTOGRAPH + alpha * palette()[CLASSES]
    overlay = draw_overlay(PHOTOGRAPH, CLASSES, alpha=alpha)
    assert np.abs(exact - overlay).max() <= 1
    if alpha in (0, 1):
        np.testing.assert_array_equal(exact, overlay)


def test_other_classes_stay_photograph() -> None:
    """Classes that are not listed stay photograph; those listed are drawn as in a full overlay."""
    overlay = draw_overlay(PHOTOGRAPH, CLASSES, shown_classes=[0, 13])
    is_drawn = np.isin(CLASSES, [0, 13])
    np.testing.assert_array_equal(PHOTOGRAPH[~is_drawn], overlay[~is_drawn])
    np.testing.assert_array_equal(draw_overlay(PHOTOGRAPH, CLASSES)[is_drawn], overlay[is_drawn])


@pytest.mark.parametrize("columns", [64, 512, 2048])
def test_legend_has_the_colors_of_its_classes(columns: int) -> None:
    """A legend has the width of the picture, even rows, and a swatch of each class alone."""
    strip = draw_legend(CLASS_NAMES, (0, 10, 13), columns)
    assert columns == strip.shape[1]
    assert 0 == strip.shape[0] % 2
    drawn = {tuple(pixel) for pixel in strip.reshape(-1, 3).tolist()}
    colors = [tuple(color) for color in palette()[:19].tolist()]
    colorful = {color for color in colors if len(set(color)) > 1}  # the text is gray
    assert {colors[k] for k in (0, 10, 13)} == drawn & colorful


def test_style_adds_the_legend_below() -> None:
    """With a legend the picture is as much higher as the style says, and else unchanged."""
    style = OverlayStyle(shown_classes=(13,), legend=CLASS_NAMES)
    drawn = style.draw(PHOTOGRAPH, CLASSES)
    assert 31 + style.legend_rows(45) == drawn.shape[0]
    plain = OverlayStyle(shown_classes=(13,))
    assert 0 == plain.legend_rows(45)
    np.testing.assert_array_equal(plain.draw(PHOTOGRAPH, CLASSES), drawn[:31])
