"""Remembers every run in MLflow, and never lets a training wait for it or fail because of it."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline import provenance, store, termination

os.environ.update(store.QUIET | os.environ)  # what the user has set stays

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from pipeline.tracking.run import BATCH, TROUBLE, Run

_logger = logging.getLogger(__name__)
_Values = Mapping[str, object]
_Figures = Mapping[str, float | None]


@contextmanager
def training_run(
    name: str, params: _Values, tags: _Values, begun_as: str | None = None
) -> Iterator[Run]:
    """Open a run; it ends FINISHED, FAILED by an exception, KILLED by SIGTERM or ctrl-C.

    Args:
        name: of the run.
        params: all that the training is told.
        tags: what else is known.
        begun_as: id of the run in which this training was begun, if it goes on; its records are
            not doubled.
    """

    def find(client: MlflowClient) -> str:
        if known := _find(client, begun_as):
            client.update_run(known, status="RUNNING")
            return known
        return _create(client, name, params, tags)

    with _until_end(_open(find)) as run:
        if begun_as:
            run.recall()
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
    except TROUBLE as trouble:
        _logger.warning(store.failure(trouble))
        return Run(None, None)


def _create(client: MlflowClient, name: str, params: _Values, tags: _Values) -> str:
    every = {**resolve_tags(), **provenance.tags(), **_texts(tags)}
    every["mlflow.note.content"] = provenance.description(name, every)
    run_id = str(client.create_run(_experiment(client), tags=every, run_name=name).info.run_id)
    entries = [Param(key, str(value)) for key, value in params.items()]
    for first in range(0, len(entries), BATCH):
        client.log_batch(run_id, params=entries[first : first + BATCH])
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
