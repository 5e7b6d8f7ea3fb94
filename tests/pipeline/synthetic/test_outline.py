"""Polygons, bars and the fading with distance equal slower references."""

import math

import numpy as np
import pytest
from skimage.draw import polygon

from pipeline.synthetic.canvas import Canvas
from pipeline.synthetic.outline import rasterize_polygon
from pipeline.synthetic.view import approximate_exp_decay

SIZE = (40, 60)


@pytest.mark.parametrize("corners", [3, 4, 7, 16])
def test_polygons_equal_those_of_scikit_image(corners: int) -> None:
    """Convex polygons of any number of corners, also partly outside, cover the same pixels."""
    rng = np.random.default_rng(corners)
    for _ in range(20):
        turn = np.sort(rng.uniform(0, 2 * np.pi, corners))
        center, radii = rng.uniform(-5, 55, 2), rng.uniform(0.5, 30, 2)
        points = center + np.stack([np.sin(turn), np.cos(turn)], axis=1) * radii
        expected = np.zeros(SIZE, bool)
        expected[polygon(points[:, 0] - 0.5, points[:, 1] - 0.5, SIZE)] = True
        actual = np.zeros(SIZE, bool)
        cover = rasterize_polygon(points, SIZE)
        if cover is not None:
            actual[cover[0], cover[1]] = cover[2]
        assert np.array_equal(expected, actual)


def test_capsule_covers_pixels_within_its_radius() -> None:
    """A capsule covers the pixels nearer to its center line than its radius there."""
    canvas = Canvas(*SIZE)
    canvas.capsule(np.array([[8.0, 10.0], [30.0, 41.0]]), (6.0, 3.0), np.ones(3), (17, 5.0))
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            down, across = row + 0.5 - 8, column + 0.5 - 10
            along = min(max((down * 22 + across * 31) / (22**2 + 31**2), 0), 1)
            distance = math.dist((down, across), (22 * along, 31 * along))
            assert (distance < 6 - 3 * along) == (canvas.ids[row, column] == 17)


def test_fading_approximates_the_exponential() -> None:
    """The value falls from 1 to 0 and is within 0.03 of exp(-distance)."""
    distance = np.linspace(0, 20, 200)
    assert np.allclose(np.exp(-distance), approximate_exp_decay(distance), atol=0.03)
    assert (np.diff(approximate_exp_decay(distance)) < 0).all()
