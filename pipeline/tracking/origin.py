"""What a run says of where it comes from, read back from MLflow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from pipeline import store
from pipeline.provenance import EVALUATES, MODEL_SUM, REPRODUCES
from pipeline.tracking import naming
from pipeline.tracking.delivery import TROUBLE


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


def origin(wanted: str, into: Path, experiment: str | None = None) -> Origin:
    """Read what a run says of its origin; its files are brought into the folder `into`.

    Of a run in which an experiment only scored a model, that model's training is meant.

    Args:
        wanted: the run's id, the beginning of it, its key, or its name, which means the newest
            training that finished and was not itself one made again.
        into: a folder.
        experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.

    Raises:
        ValueError: if there is no such run, or it has not kept what it was made from.
    """
    store.check_is_there()
    try:
        mlflow.set_tracking_uri(store.uri())
        client = MlflowClient()
        run = naming.named(
            client, wanted, experiment, kind="finished training", is_meant=_is_original
        )
        if training := run.data.tags.get(EVALUATES):
            run = naming.named(client, training, None)
        run_id = run.info.run_id
        kept = [entry.path for entry in client.list_artifacts(run_id, "source")]
        if "source/params.yaml" not in kept:
            raise ValueError(
                f"run {run_id} has not kept its parameters: it is no training's run, or was made "
                "by an earlier version; choose a run that has the folder source"
            )
        source = Path(client.download_artifacts(run_id, "source", str(into)))
    except TROUBLE as trouble:
        raise ValueError(store.refusal(trouble)) from None
    return Origin(run_id, str(run.info.run_name), dict(run.data.tags), source)


def _is_original(run: Any) -> bool:
    return MODEL_SUM in run.data.tags and REPRODUCES not in run.data.tags
