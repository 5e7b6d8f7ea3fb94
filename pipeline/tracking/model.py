"""A trained model in MLflow, as `mlflow.pyfunc.load_model` and `mlflow models serve` take it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from segformer import segmenter
from segformer.inference.settings import InferenceSettings

_LOADER = Path(__file__).with_name("segformer_pyfunc.py")

CONTENT_TAG = "sha256"
"""The tag of a logged model with the SHA-256 of its weights and inference settings."""


def log_model(client: MlflowClient, run_id: str, folder: Path, options: Mapping[str, Any]) -> None:
    """Log a model into a run, unless it is there.

    Args:
        client: of the store.
        run_id: the run that made it.
        folder: what `segformer.weights.checkpoint.save` wrote.
        options: `example`, an image in base64 that is kept with the model, and `inference`, the
            settings it is served with, as `InferenceSettings.to_dict` returns them. (A journal from
            before there were such settings has `input_size`.)
    """
    settings = InferenceSettings.from_config(options).to_dict()
    content = _content_sha256(folder, settings)
    experiment = client.get_run(run_id).info.experiment_id
    known = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    for one in known:
        if one.status != "READY":
            client.delete_logged_model(one.model_id)  # something ended it while it was being sent
        elif one.tags.get(CONTENT_TAG) == content:
            return
    mlflow.set_experiment(experiment_id=experiment)  # or else it lands in the one called Default
    class_ids = TensorSpec(np.dtype("uint8"), (-1, -1, -1))
    Model.log(
        None,
        mlflow.pyfunc,
        name="segformer",
        run_id=run_id,
        tags={CONTENT_TAG: content},
        loader_module=_LOADER.stem,
        data_path=str(folder),
        code_paths=[str(Path(segmenter.__file__).parent), str(_LOADER)],
        model_config={"inference": settings},
        signature=ModelSignature(Schema([ColSpec("string", "image")]), Schema([class_ids])),
        input_example=pd.DataFrame({"image": [options["example"]]}),
        pip_requirements=segmenter.list_requirements(),
    )


def _content_sha256(folder: Path, settings: Mapping[str, Any]) -> str:
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in ("model.safetensors", "config.json"):
        found.update((folder / name).read_bytes())
    return found.hexdigest()
