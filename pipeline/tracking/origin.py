"""What a run says of where it comes from, read back from MLflow."""

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
    """Where a run comes from.

    Attributes:
        run_id: MLflow's.
        name: of the run.
        tags: all of them, by name.
        source: a folder with the files that were kept under `source`.
    """

    run_id: str
    name: str
    tags: dict[str, str]
    source: Path


def fetch_origin(reference: str, destination: Path, experiment: str | None = None) -> Origin:
    """Read what a run says of its origin; its files are brought into the folder `destination`.

    Of a run in which an experiment only scored a model, that model's training is meant.

    Args:
        reference: the run's id, the beginning of it, its key, or its name, which means the newest
            training that finished and was not itself one made again.
        destination: a folder.
        experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.

    Raises:
        ValueError: if there is no such run, or it has not kept what it was made from.
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
        kept = [entry.path for entry in client.list_artifacts(run_id, "source")]
        if "source/params.yaml" not in kept:
            raise ValueError(
                f"run {run_id} has not kept its parameters: it is no training's run, or was made "
                "by an earlier version; choose a run that has the folder source"
            )
        source = Path(client.download_artifacts(run_id, "source", str(destination)))
    except STORE_ERRORS as trouble:
        raise ValueError(store.describe_query_failure(trouble)) from None
    return Origin(run_id, str(run.info.run_name), dict(run.data.tags), source)


def _is_original(run: Any) -> bool:
    return MODEL_SHA256 in run.data.tags and REPRODUCES not in run.data.tags
