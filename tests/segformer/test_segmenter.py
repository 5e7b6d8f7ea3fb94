from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from packaging.requirements import Requirement

from segformer import segmenter
from segformer.data.resize import resize_image
from segformer.inference.segment import segment
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    checkpoint.save(SegFormer("b0"), path)
    return path


@pytest.fixture(scope="module")
def served(folder: Path) -> segmenter.Segmenter:
    """That model, loaded as MLflow loads it."""
    return segmenter.load(str(folder))


def expected(folder: Path, input_size: tuple[int, int]) -> np.ndarray:
    """The classes that the library predicts without a segmenter, (1, 40, 56)."""
    images = torch.from_numpy(resize_image(IMAGE, input_size).copy())[None]
    model = checkpoint.load(folder)
    return segment(model, images, input_size=input_size, output_size=(40, 56)).numpy()


@pytest.mark.parametrize(
    ("model_config", "input_size"),
    [
        (None, (40, 56)),
        ({"input_size": [32, 64]}, (32, 64)),
        ({"inference": {"size": [32, 64]}}, (32, 64)),
    ],
)
def test_served_prediction_is_the_librarys(
    folder: Path, model_config: dict[str, object] | None, input_size: tuple[int, int]
) -> None:
    """For a PNG the served model predicts the classes that the library predicts for its pixels."""
    model = segmenter.load(str(folder), model_config)
    predicted = model.predict([segmenter.encode(IMAGE)])
    assert np.uint8 == predicted.dtype
    np.testing.assert_array_equal(expected(folder, input_size), predicted)
    assert len(np.unique(predicted)) > 1


def test_table_equals_a_list(served: segmenter.Segmenter) -> None:
    """A data frame with a column `image`, as MLflow passes it, equals a list of texts."""
    texts = [segmenter.encode(IMAGE), segmenter.encode(IMAGE[::-1].copy())]
    table = served.predict(pd.DataFrame({"image": texts}))
    assert (2, 40, 56) == table.shape
    np.testing.assert_array_equal(served.predict(texts), table)


def test_encode_and_decode() -> None:
    """A PNG in base64 decodes to the same pixels, a JPEG of one gray to within 2 of 255 levels."""
    np.testing.assert_array_equal(IMAGE, segmenter.decode(segmenter.encode(IMAGE)))
    flat = np.full((16, 24, 3), 90, dtype=np.uint8)
    assert 2 >= np.abs(segmenter.decode(segmenter.encode(flat, "JPEG")).astype(int) - 90).max()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not base64!", "image 1: not base64"),
        ("bm8gcGljdHVyZQ==", "image 1: not a PNG or JPEG"),
        (segmenter.encode(IMAGE)[:400], "image 1: damaged PNG or JPEG"),
        (segmenter.encode(IMAGE, "GIF"), "image 1: not a PNG or JPEG"),
        ("äöü", "image 1: not base64"),
    ],
)
def test_invalid_image_is_named(served: segmenter.Segmenter, text: str, reason: str) -> None:
    """The error names the invalid one of several images, and the reason."""
    with pytest.raises(ValueError, match=reason):
        served.predict([segmenter.encode(IMAGE), text])


def test_images_of_two_sizes_are_refused(served: segmenter.Segmenter) -> None:
    """A request holds images of one size; the error names the sizes."""
    texts = [segmenter.encode(IMAGE), segmenter.encode(IMAGE[:32])]
    with pytest.raises(ValueError, match="not 32x56, 40x56"):
        served.predict(texts)


def test_requirements_are_valid_for_pip() -> None:
    """Pip parses each requirement, and none has the local version of a build, such as +cpu."""
    requirements = [Requirement(line) for line in segmenter.list_requirements()]
    assert {"torch", "numpy", "pillow", "safetensors"} == {x.name for x in requirements}
    assert not [x for x in requirements if "+" in str(x.specifier)]


def test_too_small_image_is_refused(served: segmenter.Segmenter) -> None:
    """An image of 8 x 8 pixels, predicted at its own size, is refused."""
    with pytest.raises(ValueError, match="8x8 pixels are too small"):
        served.predict([segmenter.encode(IMAGE[:8, :8])])


def test_the_code_of_earlier_logged_models_finds_the_module() -> None:
    """Logged models carry the line `from segformer import serving`; today's library serves it too.

    It runs against today's library where a program has imported that before the model.
    """
    from segformer import serving

    assert serving is segmenter
