"""Finds or creates the project's experiment and runs in MLflow's store."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param, Run, RunTag
from mlflow.exceptions import MlflowException

from pipeline.tracking import store, ui

RUN_KEY_TAG = "run.key"
"""The tag with our own key of a run: MLflow's id is unknown while MLflow is unreachable."""

_RESTORED_FROM_TAG = "restored_from"
_BATCH_SIZE = 100  # entries; MLflow accepts no more parameters in one call


def find_or_create_run(client: MlflowClient, header: Mapping[str, Any]) -> tuple[str, bool]:
    """Find or create the run that the header of a journal describes.

    Args:
        client: of the store.
        header: `run_id` and `key` to find the run by; `name`, `params`, `tags` and `time` of a new
            one. A run that replaces one that the store has lost is called `{name}-restored`.

    Returns:
        The run's id, and whether it is new.
    """
    run = find_run(client, header)
    tags = {**header["tags"], RUN_KEY_TAG: header["key"]}
    is_new = run is None
    if run is None:
        run = _create_run(client, header, tags)
    else:
        if header["time"] > (run.info.end_time or 0):
            client.update_run(run.info.run_id, status="RUNNING")
        _set_tags(client, run, tags)
    # MLflow does not change a parameter: the run keeps the values that it began with.
    new_params = {k: x for k, x in header["params"].items() if k not in run.data.params}
    _set_params(client, run, new_params)
    return str(run.info.run_id), is_new


def find_run(client: MlflowClient, reference: Mapping[str, Any]) -> Run | None:
    """Return the run of this `run_id` or `key`, or the one that was restored for it."""
    run_id = reference.get("run_id")
    if run_id and (run := get_run(client, run_id)) and is_active(run):
        return run
    for tag, value in ((RUN_KEY_TAG, reference.get("key")), (_RESTORED_FROM_TAG, run_id)):
        if value:
            experiment_id = find_or_create_experiment(client)
            query = f"tags.`{tag}` = '{value}'"
            if runs := client.search_runs([experiment_id], query, max_results=1):
                return runs[0]
    return None


def get_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return the run of this id, deleted or not; None if there is none."""
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def is_active(run: Run) -> bool:
    """Whether a run is not deleted."""
    return bool(run.info.lifecycle_stage == "active")


def find_or_create_experiment(client: MlflowClient) -> str:
    """Return the id of the project's experiment; create it unless it exists."""
    name = store.experiment_name()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Another process may create it first. After any other error the next call fails too.
        with suppress(MlflowException):
            client.create_experiment(name, store.artifact_location(), ui.experiment_tags())
        experiment = client.get_experiment_by_name(name)
    return str(experiment.experiment_id)


def _create_run(client: MlflowClient, header: Mapping[str, Any], tags: dict[str, str]) -> Run:
    name = header["name"]
    if lost_id := header.get("run_id"):
        name = f"{name}-restored"
        tags = {**tags, _RESTORED_FROM_TAG: lost_id}
    return client.create_run(
        find_or_create_experiment(client), start_time=header["time"], tags=tags, run_name=name
    )


def _set_tags(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    changed = [RunTag(key, text) for key, text in tags.items() if run.data.tags.get(key) != text]
    for first in range(0, len(changed), _BATCH_SIZE):
        client.log_batch(run.info.run_id, tags=changed[first : first + _BATCH_SIZE])


def _set_params(client: MlflowClient, run: Run, params: Mapping[str, str]) -> None:
    entries = [Param(key, text) for key, text in params.items()]
    for first in range(0, len(entries), _BATCH_SIZE):
        client.log_batch(run.info.run_id, params=entries[first : first + _BATCH_SIZE])
