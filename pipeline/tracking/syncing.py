"""Sends what MLflow could not be told while it was away."""

from collections.abc import Iterator

import mlflow
from mlflow import MlflowClient

from pipeline import store
from pipeline.journal import Journal, journals
from pipeline.tracking.delivery import TROUBLE, Delivery


def sync() -> Iterator[tuple[str, str | None]]:
    """Send every journal that was left, the oldest first; what is sent whole is dropped.

    Yields:
        The name of each run, and what is wrong with it: None if MLflow has all of it now. After a
        store that does not answer, the rest is not tried.
    """
    waiting = journals(store.journals())
    if not waiting:
        return
    try:
        store.create(MlflowClient)
        mlflow.set_tracking_uri(store.uri())
        client = MlflowClient()
    except TROUBLE as trouble:
        raise ValueError(store.failure(trouble)) from None
    for journal in waiting:
        if not journal.hold():
            if journal.is_there:  # or else another process has sent it
                yield _name(journal), "it is still being written"
            continue
        delivery = Delivery(client, journal)
        missing = delivery.advance() or _close(delivery, journal)
        yield _name(journal), store.reason(missing) if missing else None
        if missing is None:
            journal.remove()
        journal.close()
        if delivery.is_cut_off:
            return


def drop_earlier(key: str) -> None:
    """Drop what is left of a training's earlier attempts: the one that ended it has told all."""
    for journal in journals(store.journals()):
        if journal.beginning().get("key") == key and journal.hold():
            journal.remove()


def _close(delivery: Delivery, journal: Journal) -> Exception | None:
    """End the run of a process that was killed before it could."""
    last = None
    for last in journal.lines():
        if last.kind == "end":
            return None
    if last is None or any(_is_at_work(other, journal) for other in journals(store.journals())):
        return None
    try:
        delivery.end("KILLED", last.content["time"])
    except TROUBLE as trouble:
        return trouble
    return None


def _is_at_work(other: Journal, journal: Journal) -> bool:
    """Whether another process goes on with the run that this journal is of."""
    if other.folder == journal.folder or other.beginning().get("key") != journal.beginning()["key"]:
        return False
    is_free = other.hold()
    other.close()
    return not is_free and other.is_there


def _name(journal: Journal) -> str:
    return str(journal.beginning().get("name", journal.folder.name))
