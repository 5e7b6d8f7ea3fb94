"""Reads the origin of a run from MLflow: its tags and its files under `source`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from pipeline.tracking import search, store
from pipeline.tracking.provenance import EVALUATES, MODEL_SHA256, REPRODUCES
from pipeline.tracking.uploader import STORE_ERRORS


@dataclass(frozen=True)
class Origin:
    """The origin of a run.

    Attributes:
        run_id: MLflow's id of the run.
        name: of the run.
        tags: all of them, by name.
        source: a folder with the run's files under `source`.
    """

    run_id: str
    name: str
    tags: dict[str, str]
    source: Path


def fetch_origin(reference: str, destination: Path, experiment: str | None = None) -> Origin:
    """Read the origin of a training run, and download its files.

    A run in which an experiment only scored a model refers to the training of that model.

    Args:
        reference: the run's id, the beginning of it, its key, or its name, which refers to the
            newest training that finished and is not itself a reproduction.
        destination: the folder to download to.
        experiment: the DVC experiment to look a name up in; None: the workspace.

    Raises:
        ValueError: if there is no such run, it has no `source/params.yaml`, or MLflow fails.
    """
    store.check_exists()
    try:
        mlflow.set_tracking_uri(store.tracking_uri())
        client = MlflowClient()
        run = search.resolve_run(
            client, reference, experiment, kind="finished training", is_candidate=_is_original
        )
        if training := run.data.tags.get(EVALUATES):
            run = search.resolve_run(client, training, None)
        run_id = run.info.run_id
        if "source/params.yaml" not in {x.path for x in client.list_artifacts(run_id, "source")}:
            raise ValueError(
                f"run {run_id} has no source/params.yaml: it is not a training, or was made by an"
                " earlier version; choose a run that has the folder source"
            )
        source = Path(client.download_artifacts(run_id, "source", str(destination)))
    except STORE_ERRORS as error:
        raise ValueError(store.describe_query_failure(error)) from None
    return Origin(run_id, str(run.info.run_name), dict(run.data.tags), source)


def _is_original(run: Any) -> bool:
    """Whether a run is a training that finished and no reproduction."""
    return MODEL_SHA256 in run.data.tags and REPRODUCES not in run.data.tags
