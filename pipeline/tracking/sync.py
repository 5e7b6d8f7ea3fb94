"""Sends what MLflow could not be told while it was away."""

from collections.abc import Iterator

import mlflow
from mlflow import MlflowClient

from pipeline.tracking import store
from pipeline.tracking.journal import Journal, list_journals
from pipeline.tracking.uploader import STORE_ERRORS, Uploader


def sync_journals() -> Iterator[tuple[str, str | None]]:
    """Send every journal that was left, the oldest first; what is sent whole is dropped.

    Yields:
        The name of each run, and what is wrong with it: None if MLflow has all of it now. After a
        store that does not answer, the rest is not tried.
    """
    waiting = list_journals(store.journals_folder())
    if not waiting:
        return
    try:
        store.create_database(MlflowClient)
        mlflow.set_tracking_uri(store.tracking_uri())
        client = MlflowClient()
    except STORE_ERRORS as trouble:
        raise ValueError(store.describe_upload_failure(trouble)) from None
    for journal in waiting:
        if not journal.try_lock():
            if journal.exists:  # or else another process has sent it
                yield _run_name(journal), "it is still being written"
            continue
        delivery = Uploader(client, journal)
        missing = delivery.upload_pending() or _end_killed_run(delivery, journal)
        yield _run_name(journal), store.summarize_error(missing) if missing else None
        if missing is None:
            journal.remove()
        journal.close()
        if delivery.is_interrupted:
            return


def remove_earlier_journals(key: str) -> None:
    """Drop what is left of a training's earlier attempts: the one that ended it has told all."""
    for journal in list_journals(store.journals_folder()):
        if journal.header().get("key") == key and journal.try_lock():
            journal.remove()


def _end_killed_run(uploader: Uploader, journal: Journal) -> Exception | None:
    """End the run of a process that was killed before it could."""
    last = None
    for last in journal.lines():
        if last.kind == "end":
            return None
    if last is None or any(
        _is_resumed_elsewhere(other, journal) for other in list_journals(store.journals_folder())
    ):
        return None
    try:
        uploader.terminate_run("KILLED", last.content["time"])
    except STORE_ERRORS as trouble:
        return trouble
    return None


def _is_resumed_elsewhere(other: Journal, journal: Journal) -> bool:
    """Whether another process goes on with the run that this journal is of."""
    if other.folder == journal.folder or other.header().get("key") != journal.header()["key"]:
        return False
    is_free = other.try_lock()
    other.close()
    return not is_free and other.exists


def _run_name(journal: Journal) -> str:
    return str(journal.header().get("name", journal.folder.name))
