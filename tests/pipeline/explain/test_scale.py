"""pipeline.explain.scale: numbers, colors, and the fit to values."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.explain.scale import (
    MIDDLE_GRAY,
    ColorScale,
    blend_colors,
    fit_linear_scale,
    fit_scale,
)

GRAY = np.full((1, 1), 115, dtype=np.uint8)


def color_of(scale: ColorScale, value: float) -> tuple[int, ...]:
    """RGB of one value over gray."""
    positions = scale.positions(np.array([[value]], dtype=np.float32))
    return tuple(blend_colors(GRAY, positions)[0, 0].tolist())


def lightness(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIE L*, 0..100, of (n, 3) sRGB."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


@pytest.mark.parametrize(
    ("scale", "numbers"),
    [
        (ColorScale(4), ["1/4", "1/2", "1", "2", "4"]),
        (ColorScale(3), ["1/3", "1", "3"]),
        (ColorScale(1.5), ["0.67", "1", "1.5"]),
        (ColorScale(0.08, "score", is_ratio=False), ["0", "0.04", "0.08"]),
    ],
)
def test_numbers(scale: ColorScale, numbers: list[str]) -> None:
    """A scale of ratios has its limit, the inverse and 1, and a linear one three even steps."""
    assert numbers == [text for _, text in scale.ticks]


@pytest.mark.parametrize(
    ("scale", "neutral"), [(ColorScale(4), 1), (ColorScale(4, "score", is_ratio=False), 0)]
)
def test_neutral_values_have_no_color(scale: ColorScale, neutral: float) -> None:
    """Uniform attention, and an activation of 0, leave the photograph as it is."""
    assert (115, 115, 115) == color_of(scale, neutral)


def test_no_value_no_color() -> None:
    """Where the map does not reach, the photograph stays."""
    assert (115, 115, 115) == color_of(ColorScale(4), float("nan"))


def test_more_is_warm_and_less_is_blue() -> None:
    """Twice uniform attention is orange, half of it blue."""
    scale = ColorScale(4)
    red, _, blue = color_of(scale, 2)
    assert red > blue + 50
    red, _, blue = color_of(scale, 0.5)
    assert blue > red + 50


def test_lightness_rises_evenly() -> None:
    """Over middle gray, equal steps are equal steps of lightness, on either side of neutral."""
    positions = np.linspace(-1, 1, 21, dtype=np.float32)[None]
    gray = np.full(positions.shape, MIDDLE_GRAY, dtype=np.uint8)
    steps = np.diff(lightness(blend_colors(gray, positions)[0]))
    np.testing.assert_allclose(steps[:10].mean(), steps[:10], rtol=0.25)
    np.testing.assert_allclose(steps[10:].mean(), steps[10:], rtol=0.25)
    assert steps.sum() > 55


def test_equal_ratios_have_equal_steps() -> None:
    """On a scale of ratios, 1 to 2 is as far as 2 to 4, and 0 is at the end."""
    values = np.array([0, 1 / 4, 1 / 2, 1, 2, 4, 100], dtype=np.float32)
    np.testing.assert_allclose([-1, -1, -0.5, 0, 0.5, 1, 1], ColorScale(4).positions(values))


def test_fit_to_values() -> None:
    """The limit is the next round number; one outlier in a thousand values does not count."""
    values = np.ones(1000, dtype=np.float32)
    values[:50] = 5
    values[0] = 200
    assert 6 == fit_scale(values).limit


def test_nearly_uniform_attention_stays_pale() -> None:
    """The limit is never below 2, so noise around 1 is not blown up."""
    assert 2 == fit_scale(np.full(10, 1.01, dtype=np.float32)).limit


@pytest.mark.parametrize(("values", "limit"), [([0, 0.0123456], 0.012), ([0, 0], 1)])
def test_linear_fit(values: list[float], limit: float) -> None:
    """Two digits of the largest value, or 1 if all are 0."""
    assert limit == fit_linear_scale(np.array(values), "score").limit


@pytest.mark.parametrize("limit", [1, 0.5, float("inf"), float("nan")])
def test_impossible_limit(limit: float) -> None:
    """A scale of ratios must end above 1."""
    with pytest.raises(ValueError, match="choose a number above 1"):
        ColorScale(limit)
