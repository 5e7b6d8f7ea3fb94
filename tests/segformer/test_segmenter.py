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

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    checkpoint.save(SegFormer("b0"), path)
    return path


@pytest.fixture(scope="module")
def served(folder: Path) -> segmenter.Segmenter:
    """That model, loaded for serving."""
    return segmenter.load(str(folder))


def expected(folder: Path, input_size: tuple[int, int]) -> np.ndarray:
    """What the library itself predicts, without any serving."""
    images = torch.from_numpy(resize_image(PICTURE, input_size).copy())[None]
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
    """A PNG through the served model gives the classes that the library gives for its pixels."""
    model = segmenter.load(str(folder), model_config)
    predicted = model.predict([segmenter.encode(PICTURE)])
    assert np.uint8 == predicted.dtype
    np.testing.assert_array_equal(expected(folder, input_size), predicted)
    assert len(np.unique(predicted)) > 1


def test_a_table_is_taken_like_a_list(served: segmenter.Segmenter) -> None:
    """A data frame with a column `image`, as MLflow hands it over, equals a list of texts."""
    texts = [segmenter.encode(PICTURE), segmenter.encode(PICTURE[::-1].copy())]
    table = served.predict(pd.DataFrame({"image": texts}))
    assert (2, 40, 56) == table.shape
    np.testing.assert_array_equal(served.predict(texts), table)


def test_lossless_formats_survive() -> None:
    """A picture goes through base64 and PNG unchanged; JPEG keeps its size and its looks."""
    np.testing.assert_array_equal(PICTURE, segmenter.decode(segmenter.encode(PICTURE)))
    flat = np.full((16, 24, 3), 90, dtype=np.uint8)
    assert 2 >= np.abs(segmenter.decode(segmenter.encode(flat, "JPEG")).astype(int) - 90).max()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not base64!", "image 1: not base64"),
        ("bm8gcGljdHVyZQ==", "image 1: not a PNG or JPEG"),
        (segmenter.encode(PICTURE)[:400], "image 1: damaged PNG or JPEG"),
        (segmenter.encode(PICTURE, "GIF"), "image 1: not a PNG or JPEG"),
        ("äöü", "image 1: not base64"),
    ],
)
def test_what_is_no_picture_is_named(served: segmenter.Segmenter, text: str, reason: str) -> None:
    """Of several pictures the bad one is named, with the reason; the rest is not segmented."""
    with pytest.raises(ValueError, match=reason):
        served.predict([segmenter.encode(PICTURE), text])


def test_pictures_of_two_sizes_are_refused(served: segmenter.Segmenter) -> None:
    """One request holds pictures of one size; the sizes found are named."""
    texts = [segmenter.encode(PICTURE), segmenter.encode(PICTURE[:32])]
    with pytest.raises(ValueError, match="not 32x56, 40x56"):
        served.predict(texts)


def test_requirements_are_understood_by_pip() -> None:
    """Every requirement is pinned, and none has the local version that only one build has."""
    pinned = [Requirement(line) for line in segmenter.list_requirements()]
    assert {"torch", "numpy", "pillow", "safetensors"} == {each.name for each in pinned}
    assert not [each for each in pinned if "+" in str(each.specifier)]


def test_an_image_that_is_too_small_is_refused(served: segmenter.Segmenter) -> None:
    """An image of a few pixels, at its own size, gets an error with what the network needs."""
    with pytest.raises(ValueError, match="8x8 pixels are too small"):
        served.predict([segmenter.encode(PICTURE[:8, :8])])


def test_the_code_of_earlier_logged_models_finds_the_module() -> None:
    """Logged models carry the line `from segformer import serving`; today's library serves it too.

    It runs against today's library where a program has imported that before the model.
    """
    from segformer import serving

    assert serving is segmenter
