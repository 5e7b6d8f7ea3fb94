"""Links to the MLflow runs of a retraining, from MLflow's REST API without importing MLflow."""

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
    """A link: its text and URL."""

    text: str
    url: str


def list_run_links(experiment: str | None) -> list[Link]:
    """Return links to the runs of all arms and to the table of runs.

    Args:
        experiment: name of a DVC experiment, which its runs have as a tag; None for the runs that
            trained the models in the workspace.

    Returns:
        No links if runs are not stored on a server, or the server does not respond.
    """
    if not store.tracking_uri().startswith("http"):
        return []
    try:
        response = _get("experiments/get-by-name", experiment_name=store.experiment_name())
        experiment_id = response["experiment"]["experiment_id"]
        runs = _experiment_runs(experiment_id, experiment) if experiment else _workspace_runs()
    except (requests.RequestException, ValueError, KeyError):
        return []
    arms = [Link(name, store.run_url(experiment_id, run)) for name, run in runs.items()]
    return [*arms, Link("all runs", store.experiment_url(experiment_id))]


def list_arm_runs(arms: Iterable[str]) -> list[str]:
    """Return the runs of these arms in the workspace: run ids, or keys of runs not uploaded yet."""
    path = dvc.find_output(RUN_RECORD_FILE)
    files = [path.parent.parent / arm / path.name for arm in arms] if path else []
    records = [read_run_facts(file.parent) for file in files if file.exists()]
    runs = [record.get("mlflow_run_id") or record.get("run_key") for record in records]
    return [run for run in runs if run]


def _workspace_runs() -> dict[str, str]:
    """Return the run id of each arm, from the record that `train` writes beside the model."""
    path = dvc.find_output(RUN_RECORD_FILE)
    files = sorted(path.parent.parent.glob(f"*/{RUN_RECORD_FILE}")) if path else []
    records = {file.parent.name: read_run_facts(file.parent) for file in files}
    return {arm: run for arm, record in records.items() if (run := record.get("mlflow_run_id"))}


def _experiment_runs(experiment_id: str, name: str) -> dict[str, str]:
    query = {"experiment_ids": [experiment_id], "filter": f"tags.`dvc.exp` = '{name}'"}
    response = requests.post(
        _endpoint_url("runs/search"), json=query, timeout=_TIMEOUT, **_request_options()
    )
    response.raise_for_status()
    runs = response.json().get("runs", [])
    newest = {run["info"]["run_name"]: run["info"]["run_id"] for run in reversed(runs)}
    return dict(sorted(newest.items()))


def _get(endpoint: str, **values: str) -> Any:
    response = requests.get(
        _endpoint_url(endpoint), params=values, timeout=_TIMEOUT, **_request_options()
    )
    response.raise_for_status()
    return response.json()


def _request_options() -> dict[str, Any]:
    """Return credentials and certificate from the environment variables of MLflow's client."""
    settings = {
        name: os.environ.get(f"MLFLOW_TRACKING_{name}")
        for name in ("USERNAME", "PASSWORD", "TOKEN", "SERVER_CERT_PATH")
    }
    options: dict[str, Any] = {}
    if settings["USERNAME"] and settings["PASSWORD"]:
        options["auth"] = (settings["USERNAME"], settings["PASSWORD"])
    elif settings["TOKEN"]:
        options["headers"] = {"Authorization": f"Bearer {settings['TOKEN']}"}
    if settings["SERVER_CERT_PATH"]:
        options["verify"] = settings["SERVER_CERT_PATH"]
    return options


def _endpoint_url(endpoint: str) -> str:
    return f"{store.tracking_uri().rstrip('/')}/api/2.0/mlflow/{endpoint}"
