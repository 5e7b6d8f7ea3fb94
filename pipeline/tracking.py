"""Remembers every run in MLflow, and never lets a training wait for it or fail because of it."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline import provenance, store, termination

os.environ.update(store.QUIET | os.environ)  # what the user has set stays

import mlflow
import numpy as np
import pandas as pd
import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking.context.registry import resolve_tags
from mlflow.types import ColSpec, Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

from segformer import serving

if TYPE_CHECKING:
    from segformer.training import Progress

_TROUBLE = (MlflowException, requests.RequestException, SQLAlchemyError, OSError)
_REPORT_EVERY = 2.0  # seconds; a fast training must not wait for a round trip at every step
_BATCH = 100  # entries; MLflow takes no more parameters at once
_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_Values = Mapping[str, object]
_Figures = Mapping[str, float | None]


class Run:
    """A run in MLflow; from the first failure on it swallows what it is told. `id` None: no run."""

    def __init__(self, client: MlflowClient | None, run_id: str | None) -> None:
        self.id = run_id
        self._client = client
        self._has_failed = False
        self._waiting: list[Metric] = []
        self._sent = time.monotonic()

    def report(self, progress: "Progress") -> None:
        """Take one record of a training in progress."""
        names = ("loss", "learning_rate", "images_per_second")
        self.log_metrics({f"train/{key}": getattr(progress, key) for key in names}, progress.step)
        self.log_metrics({"val/miou": progress.val_miou}, progress.step)
        if time.monotonic() - self._sent > _REPORT_EVERY or len(self._waiting) >= _BATCH:
            self._send()

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
                loader_module=serving.__name__,
                data_path=str(folder),
                code_paths=[str(Path(serving.__file__).parent)],
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
        except _TROUBLE as trouble:
            if not self._has_failed:
                _logger.warning(store.failure(trouble))
            self._has_failed = True
            return None


@contextmanager
def training_run(name: str, params: _Values, tags: _Values) -> Iterator[Run]:
    """Open a run; it ends FINISHED, FAILED by an exception, KILLED by SIGTERM or ctrl-C."""
    with _until_end(_open(lambda client: _create(client, name, params, tags))) as run:
        yield run


@contextmanager
def resumed_run(run_id: str | None, name: str, tags: _Values | None = None) -> Iterator[Run]:
    """Open a run again to add to it; if the store lacks it, a new one, `{name}-restored`."""
    given = tags or {}

    def find(client: MlflowClient) -> str:
        if known := _find(client, run_id):
            client.update_run(known, status="RUNNING")
            client.log_batch(known, tags=[RunTag(key, x) for key, x in _texts(given).items()])
            return known
        origin = {"restored_from": run_id or "unknown"}
        return _create(client, f"{name}-restored", {}, {**given, **origin})

    with _until_end(_open(find)) as run:
        yield run


def ablation_run(name: str, arms: list[str | None], metrics: _Figures, folder: Path) -> str | None:
    """Write down an ablation as the parent of the runs it compares, and return its id.

    A run has one parent, the latest ablation; earlier ones keep the ids in a tag, `ablation.arms`.
    """

    def create(client: MlflowClient) -> str:
        known = [run_id for arm in arms if (run_id := _find(client, arm))]
        parent = _create(client, name, {}, {"ablation.arms": ",".join(known)})
        for arm in known:
            client.set_tag(arm, "mlflow.parentRunId", parent)
        return parent

    with _until_end(_open(create)) as run:
        run.log_metrics(metrics)
        run.log_artifacts(folder, under="ablation")
    return run.id


def _open(find: Callable[[MlflowClient], str]) -> Run:
    try:
        store.create(MlflowClient)
        mlflow.set_tracking_uri(store.uri())
        client = MlflowClient()
        return Run(client, find(client))
    except _TROUBLE as trouble:
        _logger.warning(store.failure(trouble))
        return Run(None, None)


def _create(client: MlflowClient, name: str, params: _Values, tags: _Values) -> str:
    every = {**resolve_tags(), **provenance.tags(), **_texts(tags)}
    every["mlflow.note.content"] = provenance.description(name, every)
    run_id = str(client.create_run(_experiment(client), tags=every, run_name=name).info.run_id)
    entries = [Param(key, str(value)) for key, value in params.items()]
    for first in range(0, len(entries), _BATCH):
        client.log_batch(run_id, params=entries[first : first + _BATCH])
    return run_id


def _texts(tags: _Values) -> dict[str, str]:
    return {key: str(value) for key, value in tags.items() if value is not None}


def _experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name(store.experiment())
    if found is None:
        # Another process may be first; if it fails for another reason, so does the next line.
        with suppress(MlflowException):
            client.create_experiment(store.experiment(), store.artifacts())
        found = client.get_experiment_by_name(store.experiment())
    return str(found.experiment_id)


def _find(client: MlflowClient, run_id: str | None) -> str | None:
    """Return the id by which the store knows a run: its own, or that of the run restored for it."""
    if run_id is None:
        return None
    try:
        if client.get_run(run_id).info.lifecycle_stage == "active":
            return run_id
    except MlflowException as trouble:
        if trouble.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    restored = client.search_runs([_experiment(client)], f"tags.restored_from = '{run_id}'")
    return str(restored[0].info.run_id) if restored else None


@contextmanager
def _until_end(run: Run) -> Iterator[Run]:
    status = "FAILED"
    try:
        # By itself SIGTERM ends Python on the spot, and MLflow would call the run running for ever.
        with termination.unwinding():
            yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        run.end(status)
