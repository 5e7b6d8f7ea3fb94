"""Finds runs in MLflow by id, key or name, and the best of several."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient

from pipeline.tracking import store
from pipeline.tracking.experiment import RUN_KEY_TAG, get_run, is_active

_EXPERIMENT_TAG = "dvc.exp"  # a run's DVC experiment; the workspace's runs have no such tag
_MIN_ID_LENGTH = 8  # characters of an id that identify a run, if no other run's id begins with them
_MIOU = "eval/miou"


def best_run(client: MlflowClient, references: Sequence[str], experiment: str | None) -> Any:
    """Return the run referred to; of several, the run with the highest mIoU.

    Args:
        client: of the store.
        references: of each run its id, the beginning of it, its key, or its name, which refers to
            the newest evaluated run.
        experiment: the DVC experiment to look names up in; None: the workspace.

    Raises:
        ValueError: if a run does not exist or, of several, none is evaluated.
    """
    runs = [
        resolve_run(client, reference, experiment, kind="evaluated run", is_candidate=_is_evaluated)
        for reference in references
    ]
    if len(runs) == 1:
        return runs[0]
    return _highest_miou(
        runs, f"none of {', '.join(references)} is evaluated: run `dvc repro evaluate`"
    )


def best_run_of_newest_ablation(client: MlflowClient, experiment: str | None) -> Any:
    """Return the run with the highest mIoU among the arms of the newest ablation.

    Args:
        client: of the store.
        experiment: the DVC experiment of the ablation; None: the workspace.

    Raises:
        ValueError: if there is no ablation, or none of its arms exists and is evaluated.
    """
    ablations = _search_runs(client, "tags.`ablation.arms` != ''")
    candidates = _filter_by_experiment(ablations, experiment)
    if not candidates:
        scope = _describe_search_scope(ablations, experiment)
        raise ValueError(f"MLflow has no ablation yet{scope}: run `dvc repro`, or name an arm")
    arm_ids = candidates[0].data.tags["ablation.arms"].split(",")
    arms = [run for arm_id in arm_ids if (run := get_run(client, arm_id)) and is_active(run)]
    return _highest_miou(
        arms, "no arm of the newest ablation is evaluated: run `dvc repro evaluate`"
    )


def resolve_run(
    client: MlflowClient,
    reference: str,
    experiment: str | None,
    *,
    kind: str = "run",
    is_candidate: Callable[[Any], bool] | None = None,
) -> Any:
    """Return the run referred to; a name refers to the newest candidate.

    Args:
        client: of the store.
        reference: the run's name, its id, its key, or the beginning of its id; tried in this order.
        experiment: the DVC experiment to look a name up in; None: the workspace.
        kind: of the candidates, for the error.
        is_candidate: whether a name can refer to a run; None: to all runs.

    Raises:
        ValueError: if there is no such run, it is deleted, or the beginning of an id is ambiguous.
    """
    named = [
        run for run in _find_by_name(client, reference) if not is_candidate or is_candidate(run)
    ]
    if candidates := _filter_by_experiment(named, experiment):
        return candidates[0]
    for find in (_find_by_id, _find_by_key, _find_by_id_prefix):
        if run := find(client, reference):
            return run
    scope = _describe_search_scope(named, experiment)
    raise ValueError(
        f"MLflow has no {kind} {reference!r}{scope}: choose the name of an arm or the id of a run"
    )


def _highest_miou(runs: Sequence[Any], message: str) -> Any:
    evaluated = [run for run in runs if _is_evaluated(run)]
    if not evaluated:
        raise ValueError(message)
    return max(evaluated, key=lambda run: run.data.metrics[_MIOU])


def _is_evaluated(run: Any) -> bool:
    return _MIOU in run.data.metrics


def _find_by_name(client: MlflowClient, name: str) -> list[Any]:
    """The runs of a name, and those that replace lost ones of that name, newest first."""
    similar = _search_runs(client, f"attributes.run_name LIKE '{_escape(name)}%'")
    return [run for run in similar if run.info.run_name in (name, f"{name}-restored")]


def _find_by_id(client: MlflowClient, run_id: str) -> Any:
    """The run of an id, or the one that was restored for it; None if there is none.

    Raises:
        ValueError: if it is deleted.
    """
    run = get_run(client, run_id) if re.fullmatch("[0-9a-f]{32}", run_id) else None
    if run and is_active(run):
        return run
    if restored := _search_runs(client, f"tags.restored_from = '{_escape(run_id)}'"):
        return restored[0]
    if run:
        raise ValueError(
            f"run {run_id} is deleted: restore it with `mlflow runs restore --run-id {run_id}`"
        )
    return None


def _find_by_key(client: MlflowClient, key: str) -> Any:
    if not re.fullmatch(r"[\w.-]+", key):
        return None
    return next(iter(_search_runs(client, f"tags.`{RUN_KEY_TAG}` = '{key}'")), None)


def _find_by_id_prefix(client: MlflowClient, prefix: str) -> Any:
    """The run whose id begins with a prefix; None if there is none.

    Raises:
        ValueError: if several do.
    """
    if not re.fullmatch(f"[0-9a-f]{{{_MIN_ID_LENGTH},31}}", prefix):
        return None
    runs = _search_runs(client, f"attributes.run_id LIKE '{prefix}%'")
    if len(runs) > 1:
        raise ValueError(f"{len(runs)} run ids begin with {prefix}: give the whole id")
    return next(iter(runs), None)


def _search_runs(client: MlflowClient, query: str) -> list[Any]:
    """The runs of the project's experiment that match an MLflow filter, newest first."""
    experiment = client.get_experiment_by_name(store.experiment_name())
    if experiment is None:
        return []
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([experiment.experiment_id], query, order_by=order))


def _escape(text: str) -> str:
    """The text for an MLflow filter: a quotation mark would end it, `_` matches any character."""
    return re.sub(r"[^\w.-]", "_", text)


def _filter_by_experiment(runs: Sequence[Any], experiment: str | None) -> list[Any]:
    """The runs of a DVC experiment; None: those of the workspace."""
    return [run for run in runs if run.data.tags.get(_EXPERIMENT_TAG) == experiment]


def _describe_search_scope(runs: Sequence[Any], experiment: str | None) -> str:
    """The place that was searched, and the option that searches elsewhere, for an error."""
    if experiment:
        return f" in the DVC experiment {experiment}"
    names = [run.data.tags[_EXPERIMENT_TAG] for run in runs if _EXPERIMENT_TAG in run.data.tags]
    if names:
        return f" in the workspace, only in DVC experiments (newest: `--experiment {names[0]}`)"
    return ""
