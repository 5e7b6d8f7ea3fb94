"""pipeline.explain.panels: maps enlarged, queries marked."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.explain.panels import draw_gray, draw_mark, plan_mark, resize_map
from pipeline.explain.scale import MIDDLE_GRAY

RANDOM = np.random.default_rng(0)


def test_one_key_lights_its_own_pixels() -> None:
    """Without interpolation every key is a rectangle of its value."""
    values = RANDOM.random((2, 3), dtype=np.float32)
    expected = np.kron(values, np.ones((4, 5), dtype=np.float32))
    np.testing.assert_array_equal(expected, resize_map(values, (8, 15)))


@pytest.mark.parametrize("size", [(8, 15), (7, 11), (2, 3)])
def test_bilinear_is_that_of_pytorch(size: tuple[int, int]) -> None:
    """With interpolation the result equals torch's, without aligned corners."""
    values = RANDOM.random((2, 3), dtype=np.float32)
    images = torch.from_numpy(values)[None, None]
    expected = F.interpolate(images, size=size, mode="bilinear", align_corners=False)[0, 0]
    actual = resize_map(values, size, interpolation="bilinear")
    np.testing.assert_allclose(expected, actual, atol=1e-6)


def test_map_of_one_row() -> None:
    """A single key fills the panel."""
    one = np.ones((1, 1), dtype=np.float32)
    np.testing.assert_array_equal(1, resize_map(one, (3, 4), interpolation="bilinear"))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_map_that_ends_before_the_photograph(interpolation: str) -> None:
    """Where the last pixels are in no key, there is no value."""
    values = np.ones((2, 2), dtype=np.float32)
    enlarged = resize_map(
        values,
        (10, 8),
        coverage=(0.8, 0.5),
        interpolation=interpolation,  # type: ignore[arg-type]
    )
    expected = np.full((10, 8), np.nan)
    expected[:8, :4] = 1
    np.testing.assert_array_equal(expected, enlarged)


def test_map_that_ends_behind_the_photograph() -> None:
    """Where the last token is partly padding, only its part in the photograph is drawn."""
    values = np.array([[1, 2]], dtype=np.float32)
    np.testing.assert_array_equal(
        [[1, 1, 1, 1, 2, 2]], resize_map(values, (1, 6), coverage=(1, 8 / 6))
    )


def test_cross_at_the_pixel() -> None:
    """The cross is white at the pixel, black beside its arms, and leaves the rest."""
    panel = np.full((60, 90, 3), 77, dtype=np.uint8)
    marked = draw_mark(panel, plan_mark((20.5 / 60, 30.5 / 90), (60, 90)))
    is_white = (marked == 255).all(2)
    rows, columns = is_white.nonzero()
    assert (20, 30) == (rows.mean(), columns.mean())
    assert is_white[20, 30]
    assert (marked[:10] == 77).all()
    assert (marked[:, 40:] == 77).all()
    assert (marked == 0).all(2).any()


def test_cross_at_the_corner() -> None:
    """The last pixel of a photograph can be marked."""
    lines = plan_mark((0.999, 0.999), (12, 24))
    assert lines is not None
    assert lines.line[11, 23]


def test_outline_of_a_region() -> None:
    """The white line is inside the region, the black one outside; all else stays."""
    region = np.zeros((30, 30), dtype=bool)
    region[10:20, 10:20] = True
    lines = plan_mark(region, (30, 30))
    assert lines is not None
    inner = region.copy()
    inner[11:19, 11:19] = False
    np.testing.assert_array_equal(inner, lines.line)
    outer = np.zeros_like(region)
    outer[9:21, 9:21] = True
    np.testing.assert_array_equal(outer & ~region, lines.edge)


def test_gray_keeps_the_middle() -> None:
    """Middle gray becomes the gray of the scale bar, and the contrast is halved."""
    shades = np.array([0, 128, 255], dtype=np.uint8)
    dark, middle, bright = draw_gray(np.repeat(shades[None, :, None], 3, axis=2))[0].tolist()
    assert MIDDLE_GRAY == middle
    assert 115 < bright - dark < 140
