"""Uploads the journals of runs that were recorded while MLflow was unreachable."""

from collections.abc import Iterator

import mlflow
from mlflow import MlflowClient

from pipeline.tracking import store
from pipeline.tracking.journal import Journal, list_journals
from pipeline.tracking.uploader import STORE_ERRORS, Uploader


def sync_journals() -> Iterator[tuple[str, str | None]]:
    """Upload all remaining journals, oldest first; remove those that are uploaded completely.

    Yields:
        The name of each run, and the problem with it: None if MLflow has all of it now. If the
        store fails, the remaining journals are not tried.

    Raises:
        ValueError: if the store cannot be opened.
    """
    journals = list_journals(store.journals_folder())
    if not journals:
        return
    try:
        store.create_database(MlflowClient)
        mlflow.set_tracking_uri(store.tracking_uri())
        client = MlflowClient()
    except STORE_ERRORS as error:
        raise ValueError(store.describe_query_failure(error)) from None
    for journal in journals:
        if not journal.try_lock():
            if journal.exists:  # otherwise another process has uploaded it
                yield _run_name(journal), "not uploaded, the run is still in progress"
            continue
        uploader = Uploader(client, journal)
        problem = uploader.upload_pending() or _end_killed_run(uploader, journal)
        yield _run_name(journal), store.summarize_error(problem) if problem else None
        if problem is None:
            journal.remove()
        journal.close()
        if uploader.is_interrupted:
            return


def remove_earlier_journals(key: str) -> None:
    """Remove the journals of a training's earlier attempts, once its last one is uploaded.

    Args:
        key: of the training's run.
    """
    for journal in list_journals(store.journals_folder()):
        if journal.header().get("key") == key and journal.try_lock():
            journal.remove()


def _end_killed_run(uploader: Uploader, journal: Journal) -> Exception | None:
    """End the run of a process that was killed before it ended the run itself."""
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
    except STORE_ERRORS as error:
        return error
    return None


def _is_resumed_elsewhere(other: Journal, journal: Journal) -> bool:
    """Whether a process that writes `other` has resumed the run of `journal`."""
    if other.folder == journal.folder or other.header().get("key") != journal.header()["key"]:
        return False
    is_free = other.try_lock()
    other.close()
    return not is_free and other.exists


def _run_name(journal: Journal) -> str:
    return str(journal.header().get("name", journal.folder.name))
