import numpy as np
import pytest
import torch

from segformer.data.resize import resize_image
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.inference.sliding_window import predict
from segformer.model.segformer import SegFormer

IMAGE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> SegFormer:
    """A network with random weights."""
    torch.manual_seed(0)
    return SegFormer("b0").eval()


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation between four pixels, by its definition."""
    result = image.astype(np.float64)
    for axis, length in enumerate(size):
        old = image.shape[axis]
        centers = ((np.arange(length) + 0.5) * old / length - 0.5).clip(0, old - 1)
        below = np.floor(centers).astype(int)
        above = (below + 1).clip(max=old - 1)
        shape = [-1 if axis == place else 1 for place in range(3)]
        weight = (centers - below).reshape(shape)
        result = result.take(below, axis) * (1 - weight) + result.take(above, axis) * weight
    return result


@pytest.mark.parametrize(
    ("settings", "inputs"),
    [
        (InferenceSettings(), [IMAGE]),
        (InferenceSettings((64, 96)), [resize_image(IMAGE, (64, 96))]),
        (
            InferenceSettings(
                (64, 96), windows=((48, 48), (32, 32)), flip=True, scales=(0.75, 1.25)
            ),
            [resize_image(IMAGE, (48, 72)), resize_image(IMAGE, (80, 120))],
        ),
    ],
)
def test_settings_reach_the_network(
    network: SegFormer, settings: InferenceSettings, inputs: list[np.ndarray]
) -> None:
    """The prediction is that of the image at each scale's size, by windows and mirrored as set."""
    expected = predict(
        network,
        [torch.tensor(pixels) for pixels in inputs],
        output_size=(70, 90),
        windows=settings.windows,
        flip=settings.flip,
    )
    predictor = Predictor(network, settings)
    np.testing.assert_array_equal(expected.classes.numpy(), predictor.predict_classes(IMAGE))
    assert torch.equal(expected.confidence, predictor.predict(IMAGE).confidence)


@pytest.mark.parametrize("size", [(35, 45), (29, 33), (100, 131)])
def test_the_bilinear_filter_interpolates_four_pixels(
    network: SegFormer, size: tuple[int, int]
) -> None:
    """`bilinear` skips pixels where it shrinks; its pixels are rounded to the nearest."""
    exact = bilinear(IMAGE, size)
    is_tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    pixels = Predictor(network, InferenceSettings(size, resize="bilinear"))._resize(IMAGE, size)
    assert 0 == np.abs(np.rint(exact) - pixels.numpy())[~is_tie].max()
    assert 1 >= np.abs(np.rint(exact) - pixels.numpy()).max()
    assert 1 < np.abs(exact - resize_image(IMAGE, size)).max() or size == (100, 131)
