"""Finds in MLflow the runs that people mean when they name who is to challenge the champion."""

from collections.abc import Sequence
from typing import Any

from mlflow import MlflowClient

from pipeline.tracking import naming

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
    found = [
        naming.named(client, one, experiment, kind="evaluated run", is_meant=_is_evaluated)
        for one in wanted
    ]
    if len(found) == 1:
        return found[0]
    return _best(found, f"of {', '.join(wanted)} none is evaluated: `dvc repro evaluate`")


def best_of_newest_ablation(client: MlflowClient, experiment: str | None) -> Any:
    """Return the run with the highest mIoU among those that were compared last.

    Raises:
        ValueError: if none was compared, or none of them is there and evaluated.
    """
    every = naming.search(client, "tags.`ablation.arms` != ''")
    ablations = naming.of(every, experiment)
    if not ablations:
        raise ValueError(
            f"MLflow knows no ablation yet{naming.outside(every, experiment)}: `dvc repro` makes"
            " one, or name an arm"
        )
    arms = ablations[0].data.tags["ablation.arms"].split(",")
    found = [run for arm in arms if (run := naming.by_id(client, arm)) and naming.is_active(run)]
    return _best(found, "no arm of the newest ablation is evaluated: `dvc repro evaluate`")


def _best(runs: Sequence[Any], otherwise: str) -> Any:
    evaluated = [run for run in runs if _is_evaluated(run)]
    if not evaluated:
        raise ValueError(otherwise)
    return max(evaluated, key=lambda run: run.data.metrics[_MIOU])


def _is_evaluated(run: Any) -> bool:
    return _MIOU in run.data.metrics
