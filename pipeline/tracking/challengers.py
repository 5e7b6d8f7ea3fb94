"""Finds in MLflow the runs that people mean when they name who is to challenge the champion."""

import re
from collections.abc import Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline import store
from pipeline.tracking.finding import KEY

EXPERIMENT = "dvc.exp"
"""The tag of a run with the DVC experiment that it belongs to; the workspace's runs lack it."""

SHORTEST = 8
"""Letters that are enough of an id, if no other run's begins with them."""

_MIOU = "eval/miou"


def best_named(client: MlflowClient, wanted: Sequence[str], experiment: str | None) -> Any:
    """Return the run meant or, if several are, the one of the highest mIoU.

    Args:
        client: of the store.
        wanted: of each run its id, the beginning of it, its key, or its name, which means the
            newest one evaluated.
        experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.

    Raises:
        ValueError: if one is not there or, of several, none is evaluated.
    """
    found = [_named(client, one, experiment) for one in wanted]
    if len(found) == 1:
        return found[0]
    return _best(found, f"of {', '.join(wanted)} none is evaluated: `dvc repro evaluate`")


def best_of_newest_ablation(client: MlflowClient, experiment: str | None) -> Any:
    """Return the run with the highest mIoU among those that were compared last.

    Raises:
        ValueError: if none was compared, or none of them is there and evaluated.
    """
    every = search(client, "tags.`ablation.arms` != ''")
    ablations = _of(every, experiment)
    if not ablations:
        raise ValueError(
            f"MLflow knows no ablation yet{_outside(every, experiment)}: `dvc repro` makes one, or"
            " name an arm"
        )
    arms = ablations[0].data.tags["ablation.arms"].split(",")
    there = [run for arm in arms if (run := _by_id(client, arm)) and _is_active(run)]
    return _best(there, "no arm of the newest ablation is evaluated: `dvc repro evaluate`")


def search(client: MlflowClient, which: str) -> list[Any]:
    """Return the experiment's runs that a filter of MLflow's lets pass, the newest first."""
    experiment = client.get_experiment_by_name(store.experiment())
    if experiment is None:
        return []
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([experiment.experiment_id], which, order_by=order))


def _named(client: MlflowClient, wanted: str, experiment: str | None) -> Any:
    # A quotation mark would end the filter's text; `_` stands for any letter there.
    safe = re.sub(r"[^\w.-]", "_", wanted)
    names = (wanted, f"{wanted}-restored")
    alike = search(client, f"attributes.run_name LIKE '{safe}%'")
    every = [run for run in alike if run.info.run_name in names and _is_evaluated(run)]
    if found := _of(every, experiment):
        return found[0]
    run = _by_id(client, wanted) if re.fullmatch("[0-9a-f]{32}", wanted) else None
    if run and _is_active(run):
        return run
    if restored := search(client, f"tags.restored_from = '{safe}'"):
        return restored[0]
    if run:
        raise ValueError(f"run {wanted} is deleted: `mlflow runs restore --run-id {wanted}`")
    return _by_part(client, wanted, f"{_outside(every, experiment)}: name an arm, or an id")


def _by_part(client: MlflowClient, wanted: str, otherwise: str) -> Any:
    found = search(client, f"tags.`{KEY}` = '{wanted}'") if re.fullmatch(r"[\w.-]+", wanted) else []
    if not found and re.fullmatch(f"[0-9a-f]{{{SHORTEST},31}}", wanted):
        found = search(client, f"attributes.run_id LIKE '{wanted}%'")
        if len(found) > 1:
            raise ValueError(f"{len(found)} runs have ids that begin with {wanted}: give the whole")
    if not found:
        raise ValueError(f"MLflow knows no evaluated run {wanted!r}{otherwise}")
    return found[0]


def _by_id(client: MlflowClient, run_id: str) -> Any:
    try:
        return client.get_run(run_id)
    except MlflowException as trouble:
        if trouble.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _best(runs: Sequence[Any], otherwise: str) -> Any:
    evaluated = [run for run in runs if _is_evaluated(run)]
    if not evaluated:
        raise ValueError(otherwise)
    return max(evaluated, key=lambda run: run.data.metrics[_MIOU])


def _of(runs: Sequence[Any], experiment: str | None) -> list[Any]:
    return [run for run in runs if run.data.tags.get(EXPERIMENT) == experiment]


def _outside(runs: Sequence[Any], experiment: str | None) -> str:
    """Where it was looked for, and where there would be one."""
    if experiment:
        return f" of the experiment {experiment}"
    if elsewhere := [run.data.tags[EXPERIMENT] for run in runs if EXPERIMENT in run.data.tags]:
        return f" but of DVC experiments (the newest is meant by `--experiment {elsewhere[0]}`)"
    return ""


def _is_active(run: Any) -> bool:
    return bool(run.info.lifecycle_stage == "active")


def _is_evaluated(run: Any) -> bool:
    return _MIOU in run.data.metrics
