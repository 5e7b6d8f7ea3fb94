"""Logs a trained model in MLflow, for `mlflow.pyfunc.load_model` and `mlflow models serve`."""

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

CONTENT_TAG = "sha256"
"""The tag of a logged model with the SHA-256 of its weights and inference settings."""

_LOADER = Path(__file__).with_name("segformer_pyfunc.py")


def log_model(client: MlflowClient, run_id: str, folder: Path, options: Mapping[str, Any]) -> None:
    """Log a model into a run, unless the run has it already.

    Args:
        client: of the store.
        run_id: the run that trained it.
        folder: written by `segformer.weights.checkpoint.save`.
        options: `example`, an image in base64 that is kept with the model, and `inference`, the
            settings that the model is served with, as `InferenceSettings.to_dict` returns them. (A
            journal written before these settings existed has `input_size`.)
    """
    settings = InferenceSettings.from_config(options).to_dict()
    content = _content_sha256(folder, settings)
    experiment_id = client.get_run(run_id).info.experiment_id
    for existing in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"):
        if existing.status != "READY":
            client.delete_logged_model(existing.model_id)  # an upload that was interrupted
        elif existing.tags.get(CONTENT_TAG) == content:
            return
    mlflow.set_experiment(experiment_id=experiment_id)  # otherwise it is logged in "Default"
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
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in ("model.safetensors", "config.json"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
