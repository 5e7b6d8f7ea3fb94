import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.serving.load import load_model
from pipeline.tracking import client as tracking_client
from pipeline.tracking import store
from segformer import segmenter
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.weights import checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
SETTING_VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "DVC_ROOT",
    "DVC_EXP_NAME",
)


@pytest.fixture
def empty_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in the folder of an empty project, with a store of its own."""
    for name in SETTING_VARIABLES:
        # Set and deleted, so that monkeypatch undoes what the test or MLflow sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", sys.path[:])  # MLflow may add a model's code to it
    monkeypatch.chdir(tmp_path)


def test_logged_model_is_loaded_with_its_settings(empty_project: None, model_folder: Path) -> None:
    """A model in MLflow predicts with the windows, flip, scales and filter it was logged with."""
    settings = InferenceSettings(
        (64, 128),
        windows=((64, 64), (32, 32)),
        flip=True,
        scales=(0.5, 1.0),
        resize="bilinear",
    )
    with tracking_client.resume_run({}, name="ce-0") as run:
        run.log_model(model_folder, example=segmenter.make_example((32, 64)), settings=settings)
    client = tracking_client.MlflowClient(store.tracking_uri())
    [logged] = client.search_logged_models([client.get_run(str(run.id)).info.experiment_id])
    predictor = load_model(f"models:/{logged.model_id}").predictor
    assert settings == predictor.settings
    expected = Predictor(checkpoint.load(model_folder), settings).predict_classes(IMAGE)
    np.testing.assert_array_equal(expected, predictor.predict_classes(IMAGE))


def test_size_replaces_that_of_the_model(model_folder: Path) -> None:
    """`size` sets the network's input size, whatever size the model keeps."""
    predicted = load_model(str(model_folder), (32, 64)).predictor.predict_classes(IMAGE)
    settings = InferenceSettings((32, 64))
    expected = Predictor(checkpoint.load(model_folder), settings).predict_classes(IMAGE)
    np.testing.assert_array_equal(expected, predicted)


@pytest.mark.parametrize("size", [(0, 0), (28, 64), (2**13, 2**13)])
def test_impossible_size_is_refused(size: tuple[int, int]) -> None:
    """A size that is too small or too large is refused before the model is loaded."""
    with pytest.raises(ValueError, match=f"--size {size[0]} {size[1]}: choose at least 29 rows"):
        load_model("nowhere", size)


def test_missing_folder_is_refused() -> None:
    """The error names the folder and the other kinds of reference."""
    with pytest.raises(ValueError, match=r"nope is not a folder: use champion, .*models:/"):
        load_model("nope")
