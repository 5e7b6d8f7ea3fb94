import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.tracking.client import (
    MlflowClient,  # first, because it turns MLflow's reports home off
)
from pipeline.tracking.segformer_pyfunc import MlflowException, PyfuncModel, _load_pyfunc
from segformer import segmenter
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


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
    """That model as MLflow's server has it."""
    return _load_pyfunc(str(folder), {"input_size": [32, 64]})


def test_it_predicts_what_the_library_does(folder: Path, served: PyfuncModel) -> None:
    """A right picture gets the library's classes."""
    expected = segmenter.load(folder, {"input_size": (32, 64)}).predict([segmenter.encode(PICTURE)])
    np.testing.assert_array_equal(expected, served.predict([segmenter.encode(PICTURE)]))


@pytest.mark.parametrize(
    "text", ["not base64!", "bm8gcGljdHVyZQ==", segmenter.encode(PICTURE)[:400]]
)
def test_a_mistake_is_400_and_a_sentence(served: PyfuncModel, text: str) -> None:
    """What MLflow's server sends for a wrong picture has the status 400 and no traceback."""
    with pytest.raises(MlflowException) as told:
        served.predict([text])
    assert 400 == told.value.get_http_status_code()
    answer = json.loads(told.value.serialize_as_json())
    assert answer["message"].startswith("image 0: ")
    assert "stack_trace" not in answer
