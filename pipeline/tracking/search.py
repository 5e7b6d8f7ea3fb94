"""Finds in MLflow the runs that people mean when they name who is to challenge the champion."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.tracking import store
from pipeline.tracking.experiment import RUN_KEY_TAG

_MIOU = "eval/miou"


def best_run(client: MlflowClient, references: Sequence[str], experiment: str | None) -> Any:
    """Return the run meant or, if several are, the one of the highest mIoU.

    Args:
        client: of the store.
        references: of each run its id, the beginning of it, its key, or its name, which means the
            newest one evaluated.
        experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.

    Raises:
        ValueError: if one is not there or, of several, none is evaluated.
    """
    found = [
        resolve_run(client, one, experiment, kind="evaluated run", is_candidate=_is_evaluated)
        for one in references
    ]
    if len(found) == 1:
        return found[0]
    return _highest_miou(
        found, f"of {', '.join(references)} none is evaluated: `dvc repro evaluate`"
    )


def best_run_of_newest_ablation(client: MlflowClient, experiment: str | None) -> Any:
    """Return the run with the highest mIoU among those that were compared last.

    Raises:
        ValueError: if none was compared, or none of them is there and evaluated.
    """
    every = search_runs(client, "tags.`ablation.arms` != ''")
    ablations = filter_by_experiment(every, experiment)
    if not ablations:
        raise ValueError(
            f"MLflow knows no ablation yet{describe_search_scope(every, experiment)}: `dvc repro` makes"
            " one, or name an arm"
        )
    arms = ablations[0].data.tags["ablation.arms"].split(",")
    found = [run for arm in arms if (run := get_run(client, arm)) and is_active(run)]
    return _highest_miou(found, "no arm of the newest ablation is evaluated: `dvc repro evaluate`")


def _highest_miou(runs: Sequence[Any], message: str) -> Any:
    evaluated = [run for run in runs if _is_evaluated(run)]
    if not evaluated:
        raise ValueError(message)
    return max(evaluated, key=lambda run: run.data.metrics[_MIOU])


def _is_evaluated(run: Any) -> bool:
    return _MIOU in run.data.metrics


EXPERIMENT_TAG = "dvc.exp"
"""The tag of a run with the DVC experiment that it belongs to; the workspace's runs lack it."""

MIN_ID_LENGTH = 8
"""Letters that are enough of an id, if no other run's begins with them."""


def resolve_run(
    client: MlflowClient,
    reference: str,
    experiment: str | None,
    *,
    kind: str = "run",
    is_candidate: Callable[[Any], bool] | None = None,
) -> Any:
    """Return the run that is meant; a name means the newest of its kind.

    Args:
        client: of the store.
        reference: the run's id, the beginning of it, its key, or its name.
        experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.
        kind: of runs that a name can mean, in words.
        is_candidate: whether a run is of that kind; None: all are.

    Raises:
        ValueError: if it is not there.
    """
    # A quotation mark would end the filter's text; `_` stands for any letter there.
    safe = re.sub(r"[^\w.-]", "_", reference)
    names = (reference, f"{reference}-restored")
    alike = search_runs(client, f"attributes.run_name LIKE '{safe}%'")
    every = [run for run in alike if run.info.run_name in names]
    every = [run for run in every if is_candidate is None or is_candidate(run)]
    if found := filter_by_experiment(every, experiment):
        return found[0]
    run = get_run(client, reference) if re.fullmatch("[0-9a-f]{32}", reference) else None
    if run and is_active(run):
        return run
    if restored := search_runs(client, f"tags.restored_from = '{safe}'"):
        return restored[0]
    if run:
        raise ValueError(f"run {reference} is deleted: `mlflow runs restore --run-id {reference}`")
    if found := _find_by_key_or_prefix(client, reference):
        return found
    where = describe_search_scope(every, experiment)
    raise ValueError(f"MLflow knows no {kind} {reference!r}{where}: name an arm, or an id")


def search_runs(client: MlflowClient, filter_string: str) -> list[Any]:
    """Return the experiment's runs that a filter of MLflow's lets pass, the newest first."""
    experiment = client.get_experiment_by_name(store.experiment_name())
    if experiment is None:
        return []
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([experiment.experiment_id], filter_string, order_by=order))


def get_run(client: MlflowClient, run_id: str) -> Any:
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


def filter_by_experiment(runs: Sequence[Any], experiment: str | None) -> list[Any]:
    """Return the runs of a DVC experiment, or the workspace's."""
    return [run for run in runs if run.data.tags.get(EXPERIMENT_TAG) == experiment]


def describe_search_scope(runs: Sequence[Any], experiment: str | None) -> str:
    """Say where it was looked for, and where there would be one."""
    if experiment:
        return f" of the experiment {experiment}"
    if elsewhere := [
        run.data.tags[EXPERIMENT_TAG] for run in runs if EXPERIMENT_TAG in run.data.tags
    ]:
        return f" but of DVC experiments (the newest is meant by `--experiment {elsewhere[0]}`)"
    return ""


def _find_by_key_or_prefix(client: MlflowClient, reference: str) -> Any:
    if re.fullmatch(r"[\w.-]+", reference) and (
        found := search_runs(client, f"tags.`{RUN_KEY_TAG}` = '{reference}'")
    ):
        return found[0]
    if re.fullmatch(f"[0-9a-f]{{{MIN_ID_LENGTH},31}}", reference):
        found = search_runs(client, f"attributes.run_id LIKE '{reference}%'")
        if len(found) > 1:
            raise ValueError(
                f"{len(found)} runs have ids that begin with {reference}: give the whole"
            )
        return found[0] if found else None
    return None
