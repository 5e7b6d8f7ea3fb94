import colorsys
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from segformer.data.color_jitter import (
    HUE,
    NUM_COLOR_RANDOM,
    apply_color_matrix,
    color_matrix,
    fold_normalization,
    hue_rotation,
)
from segformer.data.packed_frames import normalize
from tests.reference.crops import denormalize


def apply_to_color(color: tuple[float, ...], random_numbers: np.ndarray) -> Tensor:
    """(3,): one color after the changes, 0..255."""
    pixels = torch.tensor(color).reshape(3, 1, 1)
    numbers = torch.from_numpy(fold_normalization(color_matrix(random_numbers)[None]))[0]
    result = torch.full_like(pixels, math.nan)
    apply_color_matrix(pixels, numbers, out=result)
    return denormalize(result[None]).flatten()


def single_change(which: int, position: float) -> np.ndarray:
    """Random numbers with a single change, at a given position in its range."""
    random_numbers = np.ones(NUM_COLOR_RANDOM)
    random_numbers[which], random_numbers[4 + which] = 0, position
    return random_numbers


@pytest.mark.parametrize(
    ("which", "position", "expected"),
    [
        (0, 1.0, [132, 92, 72]),  # brightness: 32 more
        (0, 0.0, [68, 28, 8]),
        (1, 1.0, [150, 90, 60]),  # contrast: one and a half times
        (1, 0.0, [50, 30, 20]),
        (2, 1.0, [100, 40, 10]),  # saturation: away from the largest, and its half
        (2, 0.0, [100, 80, 70]),
    ],
)
def test_each_change_by_hand(which: int, position: float, expected: list[float]) -> None:
    """The ends of every range, on one color."""
    result = apply_to_color((100.0, 60, 40), single_change(which, position))
    torch.testing.assert_close(torch.tensor(expected, dtype=torch.float32), result)


@pytest.mark.parametrize("position", [0.0, 0.3, 1.0])
def test_saturation_equals_hsv(position: float) -> None:
    """As in Python's colorsys: the saturation is multiplied, hue and value are unchanged."""
    hue, saturation, value = colorsys.rgb_to_hsv(0.5, 0.35, 0.4)
    expected = colorsys.hsv_to_rgb(hue, saturation * (0.5 + position), value)
    result = apply_to_color((127.5, 89.25, 102.0), single_change(2, position))
    torch.testing.assert_close(255 * torch.tensor(expected), result)


def test_hue_rotates_red_toward_green() -> None:
    """The hue of a soft red moves by 36 degrees; the gray part is unchanged."""
    red, green, blue = apply_to_color((140.0, 100, 100), single_change(3, 1.0)).tolist()
    hue = math.degrees(math.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue))
    assert HUE == pytest.approx(hue, abs=1e-3)
    assert 340 == pytest.approx(red + green + blue, rel=1e-5)


def test_hue_rotation_by_a_third() -> None:
    """A third of the circle maps red to green, green to blue and blue to red; grays stay."""
    turn = hue_rotation(2 * math.pi / 3)
    np.testing.assert_allclose([0, 1, 0], turn @ [1, 0, 0], atol=1e-15)
    np.testing.assert_allclose([0, 0, 1], turn @ [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose([7, 7, 7], turn @ [7, 7, 7])


def test_some_images_are_unchanged() -> None:
    """Each of four changes has probability 1/2: about one in sixteen images has none."""
    random_numbers = np.random.default_rng(0).random((320, NUM_COLOR_RANDOM))
    same = color_matrix(np.ones(NUM_COLOR_RANDOM))
    assert 8 <= sum(np.array_equal(same, color_matrix(row)) for row in random_numbers) <= 36


def test_unchanged_colors_are_only_normalized() -> None:
    """Without changes the result is that of packed_frames.normalize, which evaluation uses."""
    pixels = 255 * torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    numbers = torch.from_numpy(fold_normalization(color_matrix(np.ones(NUM_COLOR_RANDOM))[None]))[0]
    result = torch.empty_like(pixels)
    apply_color_matrix(pixels, numbers, out=result)
    torch.testing.assert_close(normalize(pixels.permute(1, 2, 0)[None])[0], result)


def test_colors_stay_in_range() -> None:
    """Results are clamped to 0 and 255, both of which occur."""
    random_numbers = np.random.default_rng(0).random((200, NUM_COLOR_RANDOM))
    colors = [apply_to_color(tuple(255.0 * row[:3].round()), row) for row in random_numbers]
    assert 0 == pytest.approx(torch.stack(colors).min().item(), abs=1e-4)
    assert 255 == pytest.approx(torch.stack(colors).max().item(), abs=1e-4)
