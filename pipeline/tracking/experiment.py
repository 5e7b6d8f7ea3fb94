"""Finds the run that something belongs to in MLflow's store, or makes it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param, Run, RunTag
from mlflow.exceptions import MlflowException

from pipeline.tracking import store, ui

RUN_KEY_TAG = "run.key"
"""The tag with the name that we give a run: MLflow's own id is not known while it is away."""

_BATCH_SIZE = 100  # entries; MLflow takes no more parameters at once


def find_or_create_run(client: MlflowClient, header: Mapping[str, Any]) -> tuple[str, bool]:
    """Find or make the run that the first line of a journal tells of.

    Args:
        client: of the store.
        header: `key` and `run_id` to find it by, `name`, `params` and `tags` to give it, `time`; in
            place of one that the store has lost, a new one is called `{name}-restored`.

    Returns:
        The run's id, and whether it was made just now.
    """
    run = find_run(client, header)
    tags = {**header["tags"], RUN_KEY_TAG: header["key"]}
    if run is None:
        run = _create_run(client, header, tags)
        is_new = True
    else:
        is_new = False
        if header["time"] > (run.info.end_time or 0):
            client.update_run(run.info.run_id, status="RUNNING")
        _set_tags(client, run, tags)
    # A parameter cannot be changed; what the run was begun with stays.
    _set_params(
        client, run, {k: x for k, x in header["params"].items() if k not in run.data.params}
    )
    return str(run.info.run_id), is_new


def find_run(client: MlflowClient, reference: Mapping[str, Any]) -> Run | None:
    """Return the run of this `run_id` or `key`, or the one that was restored for it."""
    if (run_id := reference.get("run_id")) and (run := _get_active_run(client, run_id)):
        return run
    for tag, value in ((RUN_KEY_TAG, reference.get("key")), ("restored_from", run_id)):
        if value:
            query = f"tags.`{tag}` = '{value}'"
            if found := client.search_runs(
                [find_or_create_experiment(client)], query, max_results=1
            ):
                return found[0]
    return None


def find_or_create_experiment(client: MlflowClient) -> str:
    """Return the id of the project's experiment; make it if it is not there."""
    found = client.get_experiment_by_name(store.experiment_name())
    if found is None:
        # Another process may be first; if it fails for another reason, so does the next line.
        with suppress(MlflowException):
            client.create_experiment(
                store.experiment_name(), store.artifact_location(), ui.experiment_tags()
            )
        found = client.get_experiment_by_name(store.experiment_name())
    return str(found.experiment_id)


def _get_active_run(client: MlflowClient, run_id: str) -> Run | None:
    try:
        run = client.get_run(run_id)
    except MlflowException as trouble:
        if trouble.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _create_run(client: MlflowClient, header: Mapping[str, Any], tags: dict[str, str]) -> Run:
    name = header["name"]
    if lost := header.get("run_id"):
        name = f"{name}-restored"
        tags = {**tags, "restored_from": lost}
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
