"""Tells MLflow what a journal holds: each thing once, however often it is tried."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.tracking import experiment, model, store
from pipeline.tracking.journal import Journal, Line, Position

STORE_ERRORS = (MlflowException, requests.RequestException, SQLAlchemyError, OSError)
"""How a store fails."""

HISTORY = {f"train/{name}": name for name in ("loss", "learning_rate", "images_per_second")}
HISTORY["val/miou"] = "val_miou"
"""The records of a training: by MLflow's name, the attribute of Progress. One value per step."""

_MAX_METRICS = 500  # figures; MLflow takes 1000 at once
_SKIPPABLE_KINDS = ("files", "model")
"""If MLflow refuses one of these, it may still take the rest."""


class Uploader:
    """Sends the lines of one journal, and notes in it what was sent.

    Attributes:
        run_id: MLflow's id of the run, once it is known.
        is_complete: whether all lines there are have been sent.
        is_interrupted: whether the store failed so that nothing more was tried.
    """

    def __init__(self, client: MlflowClient, journal: Journal) -> None:
        self.run_id: str | None = None
        self.is_complete = False
        self.is_interrupted = False
        self._client = client
        self._journal = journal
        self._position = journal.load_position()
        self._uploaded_steps: dict[str, set[int]] | None = {}
        self._is_append = False

    def upload_pending(self) -> Exception | None:
        """Send all that has not been sent; return what went wrong, if something did."""
        self.is_complete = self.is_interrupted = False
        try:
            if self.run_id is None:
                self._open_run()
            trouble = self._retry_failed()
            for lines in _batch_lines(self._journal.lines(self._position.until)):
                refusal = self._upload_lines(lines)
                left = [*self._position.left, lines[0].start] if refusal else self._position.left
                self._save_position(replace(self._position, until=lines[-1].end, left=left))
                trouble = refusal or trouble
        except STORE_ERRORS as failure:
            self._uploaded_steps = None  # what was sent last may have arrived all the same
            self.is_interrupted = True
            return failure
        self.is_complete = not self._position.left
        return trouble

    def _open_run(self) -> None:
        line = next(self._journal.lines(), None)
        if line is None:
            return
        self.run_id, is_new = experiment.find_or_create_run(self._client, line.content)
        self._is_append = line.content.get("adds", False)
        if self._position.run_id not in (None, self.run_id):
            self._position = (
                Position()
            )  # another store, or that run is gone: this one lacks everything
        self._uploaded_steps = {} if is_new else None
        first = max(self._position.until, line.end)
        self._save_position(replace(self._position, run_id=self.run_id, until=first))

    def _save_position(self, position: Position) -> None:
        self._position = position
        self._journal.save_position(position)

    def _retry_failed(self) -> Exception | None:
        """Try those that were refused before once more; return why one still is."""
        trouble = None
        for start in list(self._position.left):
            refusal = self._upload_lines([next(self._journal.lines(start))])
            if refusal is None:
                self._save_position(
                    replace(self._position, left=[x for x in self._position.left if x != start])
                )
            trouble = refusal or trouble
        return trouble

    def _upload_lines(self, lines: list[Line]) -> Exception | None:
        """Send lines of one kind; return the refusal of one that may be left behind."""
        try:
            getattr(self, f"_send_{lines[0].kind}")([line.content for line in lines])
        except STORE_ERRORS as refusal:
            if lines[0].kind not in _SKIPPABLE_KINDS:
                raise
            return refusal
        return None

    def _send_metrics(self, lines: list[dict[str, Any]]) -> None:
        known = self._fetch_uploaded_steps()
        metrics = [
            Metric(key, value, line["time"], line["step"])
            for line in lines
            for key, value in line["values"].items()
            if line["step"] not in known.get(key, ())
        ]
        if metrics:
            self._client.log_batch(self.run_id, metrics=metrics)
        for metric in metrics:
            if metric.key in HISTORY:
                known.setdefault(metric.key, set()).add(metric.step)

    def _fetch_uploaded_steps(self) -> dict[str, set[int]]:
        """Which steps of the training's history the store has, for none to be there twice."""
        if self._uploaded_steps is None:
            histories = {key: self._client.get_metric_history(self.run_id, key) for key in HISTORY}
            self._uploaded_steps = {
                key: {point.step for point in x} for key, x in histories.items()
            }
        return self._uploaded_steps

    def _send_tags(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            tags = [RunTag(key, text) for key, text in line["tags"].items()]
            self._client.log_batch(self.run_id, tags=tags)

    def _send_dataset(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            source = json.dumps({"uri": line["name"]})
            dataset = Dataset(line["name"], line["digest"], source_type="local", source=source)
            read = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
            self._client.log_inputs(self.run_id, [read])

    def _send_files(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            path = self._journal.folder / line["copy"]
            kind = "log_artifacts" if path.is_dir() else "log_artifact"
            getattr(self._client, kind)(self.run_id, str(path), line["under"])

    def _send_model(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            model.log_model(
                self._client, str(self.run_id), self._journal.folder / line["copy"], line
            )

    def _send_arms(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            compared = []
            for arm, own in zip(line["arms"], line.get("own", line["arms"]), strict=True):
                run = experiment.find_run(self._client, own)
                if run:
                    self._client.set_tag(run.info.run_id, "mlflow.parentRunId", self.run_id)
                # What an experiment compares and did not score is as the workspace scored it.
                if run := run or experiment.find_run(self._client, arm):
                    compared.append(run.info.run_id)
            self._client.set_tag(self.run_id, "ablation.arms", ",".join(compared))

    def _send_end(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            self.terminate_run(line["status"], line["time"])

    def terminate_run(self, status: str, end_time: int) -> None:
        """Close the run, unless it was ended later than `end_time` already; milliseconds since 1970.

        What only adds to a run leaves it as it ended, so that duration and status are those of the
        training: it has finished, or else there would be no model to say something of.
        """
        ended = self._client.get_run(self.run_id).info.end_time or 0
        if ended < end_time:
            how = ("FINISHED", ended) if self._is_append and ended else (status, end_time)
            self._client.set_terminated(self.run_id, *how)


def _batch_lines(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Lines one by one, but figures that follow each other together."""
    group: list[Line] = []
    size = 0
    for line in lines:
        width = len(line.content.get("values", ()))
        if group and (
            line.kind != "metrics" or group[0].kind != "metrics" or size + width > _MAX_METRICS
        ):
            yield group
            group, size = [], 0
        group.append(line)
        size += width
    if group:
        yield group


_TICK_SECONDS = 2.0  # seconds; a fast training must not cost a round trip per step
_RETRY_DELAYS = (5.0, 60.0)  # seconds; the first after a failure, and the longest
_logger = logging.getLogger("pipeline.tracking.client")


class BackgroundUploader:
    """Sends until it is told to finish; a store that is away is asked again now and then.

    Args:
        uploader: of the journal.
        on_tick: called every few seconds.
    """

    def __init__(self, uploader: Uploader, on_tick: Callable[[], None]) -> None:
        self._uploader = uploader
        self._on_tick = on_tick
        self._first_attempt_done = threading.Event()
        self._stop_requested = threading.Event()
        self._failed_at: float | None = None
        self._has_warned = False
        # A daemon, because the process does not wait for a call that hangs.
        self._thread = threading.Thread(target=self._upload_loop, name="mlflow", daemon=True)

    def start(self, timeout: float) -> float:
        """Begin; wait for the first attempt, at most so many seconds, and return what is left."""
        began = time.monotonic()
        self._thread.start()
        self._first_attempt_done.wait(timeout)
        return max(0.0, timeout - (time.monotonic() - began))

    def flush(self, timeout: float) -> bool:
        """Send the rest within so many seconds; whether all of it has arrived."""
        self._stop_requested.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn(TimeoutError(f"no answer within {timeout:.0f} seconds"))
            return False
        return self._uploader.is_complete

    def _upload_loop(self) -> None:
        due = pause = 0.0
        while not self._stop_requested.is_set():
            if time.monotonic() >= due:
                self._upload()
                first, longest = _RETRY_DELAYS
                pause = 0.0 if self._failed_at is None else min(max(first, 2 * pause), longest)
                due = time.monotonic() + pause
            self._on_tick()
            self._stop_requested.wait(_TICK_SECONDS)
        if self._failed_at is None or time.monotonic() - self._failed_at > _RETRY_DELAYS[0]:
            self._upload()

    def _upload(self) -> None:
        trouble = self._uploader.upload_pending()
        self._failed_at = time.monotonic() if self._uploader.is_interrupted else None
        if trouble:
            self._warn(trouble)
        self._first_attempt_done.set()

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            _logger.warning(store.describe_upload_failure(error))
        self._has_warned = True
