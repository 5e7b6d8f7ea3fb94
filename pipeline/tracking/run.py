"""One run in MLflow: it takes what it is told, and swallows it once the store fails."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import mlflow
import numpy as np
import pandas as pd
import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

from pipeline import store
from segformer import serving

if TYPE_CHECKING:
    from segformer.training_state import Progress

TROUBLE = (MlflowException, requests.RequestException, SQLAlchemyError, OSError)
"""How a store fails."""

_LOADER = Path(__file__).with_name("segformer_pyfunc.py")

BATCH = 100
"""Entries; MLflow takes no more parameters at once."""

_REPORT_EVERY = 2.0  # seconds; a fast training must not wait for a round trip at every step
_BY_STEP = {f"train/{name}": name for name in ("loss", "learning_rate", "images_per_second")}
_BY_STEP["val/miou"] = "val_miou"
_logger = logging.getLogger("pipeline.tracking")
_Result = TypeVar("_Result")
_Figures = Mapping[str, float | None]


class Run:
    """A run in MLflow; from the first failure on it swallows what it is told. `id` None: no run."""

    def __init__(self, client: MlflowClient | None, run_id: str | None) -> None:
        self.id = run_id
        self._client = client
        self._has_failed = False
        self._known: dict[str, set[int]] = {}
        self._waiting: list[Metric] = []
        self._sent = time.monotonic()

    def report(self, progress: "Progress") -> None:
        """Take one record of a training in progress; one that is there already is not doubled."""
        figures = {key: getattr(progress, name) for key, name in _BY_STEP.items()}
        known = {key for key in figures if progress.step in self._known.get(key, ())}
        new = {key: value for key, value in figures.items() if key not in known}
        self.log_metrics(new, progress.step)
        if time.monotonic() - self._sent > _REPORT_EVERY or len(self._waiting) >= BATCH:
            self._send()

    def recall(self) -> None:
        """Ask the store which records of the training it has, for `report` to leave them out."""
        self._known = {key: self._steps(key) for key in _BY_STEP}

    def _steps(self, key: str) -> set[int]:
        points = self._try(lambda client: client.get_metric_history(self.id, key))
        return {point.step for point in points or ()}

    def log_evaluation(self, metrics: _Figures, class_iou: _Figures, protocol: str) -> None:
        """Log the figures of an evaluation (None: undefined) and the protocol they were made by."""
        self.log_metrics({f"eval/{name}": value for name, value in metrics.items()})
        self.log_metrics({f"eval/iou/{name}": value for name, value in class_iou.items()})
        self._send()
        self._try(lambda client: client.set_tag(self.id, "protocol", protocol))

    def log_metrics(self, values: _Figures, step: int = 0) -> None:
        """Take figures; those that are None or not a number are left out. They are sent soon."""
        now = time.time_ns() // 1_000_000
        known = {key: float(x) for key, x in values.items() if x is not None and x == x}
        self._waiting += [Metric(key, value, now, step) for key, value in known.items()]

    def log_artifacts(self, path: Path, under: str = "") -> None:
        """Store a file, or what is in a folder, in the run's folder `under`."""
        kind = "log_artifacts" if path.is_dir() else "log_artifact"
        self._try(lambda client: getattr(client, kind)(self.id, str(path), under))

    def log_dataset(self, folder: Path, md5: str | None) -> None:
        """Name the data a training reads; DVC's md5 is its digest (None: not under DVC)."""
        name = folder.as_posix()
        source = json.dumps({"uri": name})
        dataset = Dataset(name, (md5 or "unknown")[:36], source_type="local", source=source)
        read = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self._try(lambda client: client.log_inputs(self.id, [read]))

    def log_model(
        self, folder: Path, *, example: str, input_size: tuple[int, int] | None = None
    ) -> str | None:
        """Log a trained model so that `mlflow.pyfunc.load_model` and `mlflow models serve` take it.

        Args:
            folder: what `segformer.checkpoint.save` wrote.
            example: a picture in base64; it is kept with the model, so it must be free to share.
            input_size: rows, columns the network sees a picture at; None: the picture's own.

        Returns:
            The model's URI, or None if MLflow did not take it.
        """
        class_ids = TensorSpec(np.dtype("uint8"), (-1, -1, -1))

        def log(client: MlflowClient) -> str:
            # Or else the model lands in the experiment "Default".
            mlflow.set_experiment(experiment_id=client.get_run(self.id).info.experiment_id)
            logged = Model.log(
                None,
                mlflow.pyfunc,
                name="segformer",
                run_id=self.id,
                loader_module=_LOADER.stem,
                data_path=str(folder),
                code_paths=[str(Path(serving.__file__).parent), str(_LOADER)],
                model_config={"input_size": list(input_size)} if input_size else None,
                signature=ModelSignature(Schema([ColSpec("string", "image")]), Schema([class_ids])),
                input_example=pd.DataFrame({"image": [example]}),
                pip_requirements=serving.requirements(),
            )
            return str(logged.model_uri)

        return self._try(log)

    def end(self, status: str) -> None:
        """Send what waits and close the run as FINISHED, FAILED or KILLED."""
        self._send()
        # Whatever failed before: it may have been a single file that was refused.
        self._attempt(lambda client: client.set_terminated(self.id, status))

    def _send(self) -> None:
        metrics, self._waiting, self._sent = self._waiting, [], time.monotonic()
        if metrics:
            self._try(lambda client: client.log_batch(self.id, metrics=metrics))

    def _try(self, call: Callable[[MlflowClient], _Result]) -> _Result | None:
        return None if self._has_failed else self._attempt(call)

    def _attempt(self, call: Callable[[MlflowClient], _Result]) -> _Result | None:
        try:
            return call(self._client) if self._client else None
        except TROUBLE as trouble:
            if not self._has_failed:
                _logger.warning(store.failure(trouble))
            self._has_failed = True
            return None
