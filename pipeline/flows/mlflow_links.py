"""Where the runs of a retraining are in MLflow, asked of its server without importing MLflow."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import requests

from pipeline import dvc
from pipeline.run_record import RUN_RECORD_FILE, read_run_facts
from pipeline.tracking import store

_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class Link:
    """A page, and the words that lead to it."""

    text: str
    url: str


def list_run_links(experiment: str | None) -> list[Link]:
    """The arms' runs and their table; none if no server keeps the runs, or if it does not answer.

    Args:
        experiment: the name of a DVC experiment, whose runs carry it as a tag; None: the runs
            that the workspace's models are from.
    """
    if not store.tracking_uri().startswith("http"):
        return []
    try:
        found = _get("experiments/get-by-name", experiment_name=store.experiment_name())
        number = found["experiment"]["experiment_id"]
        runs = _experiment_runs(number, experiment) if experiment else _workspace_runs()
    except (requests.RequestException, ValueError, KeyError):
        return []
    arms = [Link(name, store.run_url(number, run)) for name, run in runs.items()]
    return [*arms, Link("all runs", store.experiment_url(number))]


def list_arm_runs(arms: Iterable[str]) -> list[str]:
    """The runs of these arms of the workspace: ids, or keys of runs that MLflow was not told of."""
    one = dvc.find_output(RUN_RECORD_FILE)
    files = [one.parent.parent / arm / one.name for arm in arms] if one else []
    facts = [read_run_facts(file.parent) for file in files if file.exists()]
    runs = [known.get("mlflow_run_id") or known.get("run_key") for known in facts]
    return [run for run in runs if run]


def _workspace_runs() -> dict[str, str]:
    """The run of each arm, as `train` has written it beside the model."""
    one = dvc.find_output(RUN_RECORD_FILE)
    files = sorted(one.parent.parent.glob(f"*/{RUN_RECORD_FILE}")) if one else []
    found = {file.parent.name: read_run_facts(file.parent) for file in files}
    return {arm: run for arm, facts in found.items() if (run := facts.get("mlflow_run_id"))}


def _experiment_runs(experiment_id: str, name: str) -> dict[str, str]:
    wanted = {"experiment_ids": [experiment_id], "filter": f"tags.`dvc.exp` = '{name}'"}
    answer = requests.post(
        _endpoint_url("runs/search"), json=wanted, timeout=_TIMEOUT, **_request_options()
    )
    answer.raise_for_status()
    runs = answer.json().get("runs", [])
    newest = {run["info"]["run_name"]: run["info"]["run_id"] for run in reversed(runs)}
    return dict(sorted(newest.items()))


def _get(endpoint: str, **values: str) -> Any:
    answer = requests.get(
        _endpoint_url(endpoint), params=values, timeout=_TIMEOUT, **_request_options()
    )
    answer.raise_for_status()
    return answer.json()


def _request_options() -> dict[str, Any]:
    """Who asks, and what certificate is trusted, by those of MLflow's variables that tell it."""
    told = {
        name: os.environ.get(f"MLFLOW_TRACKING_{name}")
        for name in ("USERNAME", "PASSWORD", "TOKEN", "SERVER_CERT_PATH")
    }
    access: dict[str, Any] = {}
    if told["USERNAME"] and told["PASSWORD"]:
        access["auth"] = (told["USERNAME"], told["PASSWORD"])
    elif told["TOKEN"]:
        access["headers"] = {"Authorization": f"Bearer {told['TOKEN']}"}
    if told["SERVER_CERT_PATH"]:
        access["verify"] = told["SERVER_CERT_PATH"]
    return access


def _endpoint_url(endpoint: str) -> str:
    return f"{store.tracking_uri().rstrip('/')}/api/2.0/mlflow/{endpoint}"
