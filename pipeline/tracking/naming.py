"""Finds in MLflow the run that a person means: by its id, a part of it, its key, or its name."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline import store
from pipeline.tracking.finding import KEY

EXPERIMENT = "dvc.exp"
"""The tag of a run with the DVC experiment that it belongs to; the workspace's runs lack it."""

SHORTEST = 8
"""Letters that are enough of an id, if no other run's begins with them."""


def named(
    client: MlflowClient,
    wanted: str,
    experiment: str | None,
    *,
    kind: str = "run",
    is_meant: Callable[[Any], bool] | None = None,
) -> Any:
    """Return the run that is meant; a name means the newest of its kind.

    Args:
        client: of the store.
        wanted: the run's id, the beginning of it, its key, or its name.
        experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.
        kind: of runs that a name can mean, in words.
        is_meant: whether a run is of that kind; None: all are.

    Raises:
        ValueError: if it is not there.
    """
    # A quotation mark would end the filter's text; `_` stands for any letter there.
    safe = re.sub(r"[^\w.-]", "_", wanted)
    names = (wanted, f"{wanted}-restored")
    alike = search(client, f"attributes.run_name LIKE '{safe}%'")
    every = [run for run in alike if run.info.run_name in names]
    every = [run for run in every if is_meant is None or is_meant(run)]
    if found := of(every, experiment):
        return found[0]
    run = by_id(client, wanted) if re.fullmatch("[0-9a-f]{32}", wanted) else None
    if run and is_active(run):
        return run
    if restored := search(client, f"tags.restored_from = '{safe}'"):
        return restored[0]
    if run:
        raise ValueError(f"run {wanted} is deleted: `mlflow runs restore --run-id {wanted}`")
    if found := _by_part(client, wanted):
        return found
    where = outside(every, experiment)
    raise ValueError(f"MLflow knows no {kind} {wanted!r}{where}: name an arm, or an id")


def search(client: MlflowClient, which: str) -> list[Any]:
    """Return the experiment's runs that a filter of MLflow's lets pass, the newest first."""
    experiment = client.get_experiment_by_name(store.experiment())
    if experiment is None:
        return []
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([experiment.experiment_id], which, order_by=order))


def by_id(client: MlflowClient, run_id: str) -> Any:
    """Return the run of this id, deleted or not; None if there is none."""
    try:
        return client.get_run(run_id)
    except MlflowException as trouble:
        if trouble.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def is_active(run: Any) -> bool:
    """Whether nobody has deleted it."""
    return bool(run.info.lifecycle_stage == "active")


def of(runs: Sequence[Any], experiment: str | None) -> list[Any]:
    """Return the runs of a DVC experiment, or the workspace's."""
    return [run for run in runs if run.data.tags.get(EXPERIMENT) == experiment]


def outside(runs: Sequence[Any], experiment: str | None) -> str:
    """Say where it was looked for, and where there would be one."""
    if experiment:
        return f" of the experiment {experiment}"
    if elsewhere := [run.data.tags[EXPERIMENT] for run in runs if EXPERIMENT in run.data.tags]:
        return f" but of DVC experiments (the newest is meant by `--experiment {elsewhere[0]}`)"
    return ""


def _by_part(client: MlflowClient, wanted: str) -> Any:
    if re.fullmatch(r"[\w.-]+", wanted) and (found := search(client, f"tags.`{KEY}` = '{wanted}'")):
        return found[0]
    if re.fullmatch(f"[0-9a-f]{{{SHORTEST},31}}", wanted):
        found = search(client, f"attributes.run_id LIKE '{wanted}%'")
        if len(found) > 1:
            raise ValueError(f"{len(found)} runs have ids that begin with {wanted}: give the whole")
        return found[0] if found else None
    return None
