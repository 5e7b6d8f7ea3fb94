import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.tracking.client import MlflowClient  # first: it disables MLflow's telemetry
from pipeline.tracking.segformer_pyfunc import MlflowException, PyfuncModel, _load_pyfunc
from segformer import segmenter
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with random weights."""
    assert MlflowClient
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    checkpoint.save(SegFormer("b0"), path)
    return path


@pytest.fixture(scope="module")
def served(folder: Path) -> PyfuncModel:
    """That model as MLflow's server loads it."""
    return _load_pyfunc(str(folder), {"input_size": [32, 64]})


def test_prediction_is_the_librarys(folder: Path, served: PyfuncModel) -> None:
    """A valid image gets the library's classes."""
    expected = segmenter.load(folder, {"input_size": (32, 64)}).predict([segmenter.encode(IMAGE)])
    np.testing.assert_array_equal(expected, served.predict([segmenter.encode(IMAGE)]))


@pytest.mark.parametrize("text", ["not base64!", "bm8gcGljdHVyZQ==", segmenter.encode(IMAGE)[:400]])
def test_invalid_image_is_400_without_traceback(served: PyfuncModel, text: str) -> None:
    """For an invalid image MLflow's server sends status 400 and one sentence, no traceback."""
    with pytest.raises(MlflowException) as error:
        served.predict([text])
    assert 400 == error.value.get_http_status_code()
    response = json.loads(error.value.serialize_as_json())
    assert response["message"].startswith("image 0: ")
    assert "stack_trace" not in response
