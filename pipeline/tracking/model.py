"""A trained model in MLflow, as `mlflow.pyfunc.load_model` and `mlflow models serve` take it."""

import hashlib
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

_LOADER = Path(__file__).with_name("segformer_pyfunc.py")

CONTENT_TAG = "sha256"
"""The tag of a logged model with the sum of its weights and of how it sees a picture."""


def log_model(client: MlflowClient, run_id: str, folder: Path, options: Mapping[str, Any]) -> None:
    """Log a model into a run, unless it is there.

    Args:
        client: of the store.
        run_id: the run that made it.
        folder: what `segformer.weights.checkpoint.save` wrote.
        options: `example`, a picture in base64, which is kept with the model, and `input_size`: rows
            and columns the network sees a picture at, or None for the picture's own.
    """
    content = _content_sha256(folder, options["input_size"])
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
        model_config={"input_size": options["input_size"]} if options["input_size"] else None,
        signature=ModelSignature(Schema([ColSpec("string", "image")]), Schema([class_ids])),
        input_example=pd.DataFrame({"image": [options["example"]]}),
        pip_requirements=segmenter.requirements(),
    )


def _content_sha256(folder: Path, input_size: object) -> str:
    found = hashlib.sha256(repr(input_size).encode())
    for name in ("model.safetensors", "config.json"):
        found.update((folder / name).read_bytes())
    return found.hexdigest()
