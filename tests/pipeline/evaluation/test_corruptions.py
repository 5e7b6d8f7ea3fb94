import numpy as np
import pytest
from scipy import ndimage

from pipeline.evaluation.corruptions.kernels import (
    convolve,
    disk_kernel,
    gaussian_kernel,
    line_kernel,
)
from pipeline.evaluation.corruptions.registry import (
    CORRUPTIONS,
    FAMILY_BY_CORRUPTION,
    SEVERITIES,
    corrupt_image,
    derive_frame_seed,
)
from pipeline.synthetic import draw_frame

MAX_MILD_EFFECT = 45.0
"""Mean change of a pixel at severity 1, of 255: fog and brightness change all pixels."""


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    """(256, 320, 3) uint8: a drawn street."""
    return draw_frame(np.random.default_rng(3), (256, 320)).image


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two pictures, values of 255."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_effect_grows_with_severity(name: str, street: np.ndarray) -> None:
    """Each severity changes the image more than the one before; severity 1 changes it mildly."""
    effects = [distance(street, corrupt_image(street, name, s, 0)) for s in SEVERITIES]
    assert sorted(set(effects)) == effects
    assert 0 < effects[0] < MAX_MILD_EFFECT
    assert 2 * effects[0] < effects[-1]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_is_reproducible_and_keeps_its_input(name: str, street: np.ndarray) -> None:
    """The same arguments give the same image of the same shape; the input is not changed."""
    before = street.copy()
    corrupted = corrupt_image(street, name, 3, 7)
    assert street.shape == corrupted.shape
    assert np.uint8 == corrupted.dtype
    np.testing.assert_array_equal(corrupted, corrupt_image(street, name, 3, 7))
    np.testing.assert_array_equal(before, street)


@pytest.mark.parametrize(
    "name", [name for name, family in FAMILY_BY_CORRUPTION.items() if family == "noise"]
)
def test_noise_differs_between_frames(name: str, street: np.ndarray) -> None:
    """The seeds of two frames give different noise."""
    one, other = (
        corrupt_image(street, name, 3, derive_frame_seed(key, 0)) for key in ("val/a/b", "val/a/c")
    )
    assert distance(one, other) > 0


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("value", [0, 255])
def test_constant_images_give_no_warnings(name: str, value: int) -> None:
    """A black or white image of odd size causes no division by zero (warnings are errors)."""
    flat = np.full((17, 23, 3), value, dtype=np.uint8)
    assert flat.shape == corrupt_image(flat, name, 5, 0).shape


def test_every_corruption_has_a_family() -> None:
    """The names allowed in params.yaml are those of the four families."""
    assert set(CORRUPTIONS) == set(FAMILY_BY_CORRUPTION)
    assert ["noise", "blur", "weather", "digital"] == list(
        dict.fromkeys(FAMILY_BY_CORRUPTION.values())
    )


def test_unknown_name_and_severity_are_refused(street: np.ndarray) -> None:
    """The message names what is allowed."""
    with pytest.raises(ValueError, match="unknown corruption 'rain'; choose from gaussian_noise"):
        corrupt_image(street, "rain", 1, 0)
    with pytest.raises(ValueError, match="severity 0 is not one of"):
        corrupt_image(street, "fog", 0, 0)


def test_frame_seed_is_reproducible() -> None:
    """A frame's seed does not depend on Python's hashing; it depends on frame and seed."""
    assert 1181177253 == derive_frame_seed("val/munster/munster_000000_000019", 0)
    assert 3 == len(
        {
            derive_frame_seed("val/a/b", 0),
            derive_frame_seed("val/a/b", 1),
            derive_frame_seed("val/a/c", 0),
        }
    )


@pytest.mark.parametrize("kernel", [gaussian_kernel(1.7), disk_kernel(2.2), line_kernel(6.0, 0.6)])
def test_convolution_equals_scipy(kernel: np.ndarray) -> None:
    """Convolution by FFT with mirrored borders equals SciPy's direct convolution."""
    picture = np.random.default_rng(0).random((19, 31, 3), dtype=np.float32)
    expected = ndimage.convolve(picture, kernel[..., None], mode="reflect")
    np.testing.assert_allclose(convolve(picture, kernel), expected, atol=1e-5)


@pytest.mark.parametrize(
    "kernel", [gaussian_kernel(0.1), disk_kernel(0.2), line_kernel(0.5, 0.6), line_kernel(9, 1.5)]
)
def test_kernels_are_normalized_and_symmetric(kernel: np.ndarray) -> None:
    """A kernel sums to 1, has odd sides, and is point-symmetric."""
    assert 1 == pytest.approx(float(kernel.sum()), abs=1e-6)
    assert (1, 1) == (kernel.shape[0] % 2, kernel.shape[1] % 2)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)


def test_line_kernel_follows_its_angle() -> None:
    """A blur along the rows does not change an image constant along rows; one across does."""
    rows = np.repeat(np.arange(20, dtype=np.float32)[:, None], 30, axis=1)
    np.testing.assert_allclose(convolve(rows, line_kernel(7, 0.0)), rows, atol=1e-4)
    assert np.abs(convolve(rows, line_kernel(7, np.pi / 2)) - rows).max() > 0.5


def test_contrast_and_brightness_by_hand() -> None:
    """Contrast halves the distance from the mean at severity 2; brightness adds 0.16 to gray."""
    gray = np.repeat(np.array([[[100]], [[200]]], dtype=np.uint8), 3, axis=2)
    assert [125, 175] == corrupt_image(gray, "contrast", 2, 0)[:, 0, 0].tolist()
    assert [100 + 41, 200 + 41] == corrupt_image(gray, "brightness", 2, 0)[:, 0, 0].tolist()


def test_saturation_keeps_value_and_gray() -> None:
    """The largest channel and gray stay; 2.2 times the saturation of (100, 80, 90) by hand."""
    pixels = np.array([[[100, 80, 90], [50, 50, 50], [200, 10, 10]]], dtype=np.uint8)
    expected = [[100, 56, 78], [50, 50, 50], [200, 0, 0]]
    assert expected == corrupt_image(pixels, "saturate", 2, 0)[0].tolist()


def test_impulse_noise_replaces_its_share() -> None:
    """At severity 4, 8 % of the values are replaced, by black and white equally often."""
    gray = np.full((200, 200, 3), 128, dtype=np.uint8)
    noisy = corrupt_image(gray, "impulse_noise", 4, 0)
    assert 0.04 == pytest.approx(float((noisy == 0).mean()), abs=0.003)
    assert 0.04 == pytest.approx(float((noisy == 255).mean()), abs=0.003)
