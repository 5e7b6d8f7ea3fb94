"""Finds in MLflow the runs that people mean when they name who is to challenge the champion."""

from collections.abc import Sequence
from typing import Any

from mlflow import MlflowClient

from pipeline.tracking import naming

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
        naming.find_runs(client, one, experiment, kind="evaluated run", is_meant=_is_evaluated)
        for one in references
    ]
    if len(found) == 1:
        return found[0]
    return _highest_miou(found, f"of {', '.join(references)} none is evaluated: `dvc repro evaluate`")


def best_run_of_newest_ablation(client: MlflowClient, experiment: str | None) -> Any:
    """Return the run with the highest mIoU among those that were compared last.

    Raises:
        ValueError: if none was compared, or none of them is there and evaluated.
    """
    every = naming.search_runs(client, "tags.`ablation.arms` != ''")
    ablations = naming.filter_by_experiment(every, experiment)
    if not ablations:
        raise ValueError(
            f"MLflow knows no ablation yet{naming.describe_search_scope(every, experiment)}: `dvc repro` makes"
            " one, or name an arm"
        )
    arms = ablations[0].data.tags["ablation.arms"].split(",")
    found = [run for arm in arms if (run := naming.get_run(client, arm)) and naming.is_active(run)]
    return _highest_miou(found, "no arm of the newest ablation is evaluated: `dvc repro evaluate`")


def _highest_miou(runs: Sequence[Any], message: str) -> Any:
    evaluated = [run for run in runs if _is_evaluated(run)]
    if not evaluated:
        raise ValueError(message)
    return max(evaluated, key=lambda run: run.data.metrics[_MIOU])


def _is_evaluated(run: Any) -> bool:
    return _MIOU in run.data.metrics
