"""Uploads a journal to MLflow, each line once whatever fails; at once or in the background."""

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
"""The exceptions of a store that fails."""

HISTORY_METRICS = {
    "train/loss": "loss",
    "train/learning_rate": "learning_rate",
    "train/images_per_second": "images_per_second",
    "val/miou": "val_miou",
}
"""The metrics of a training, with one value per step: MLflow's name -> attribute of StepRecord."""

_MAX_METRICS = 500  # in one call; MLflow accepts 1000
_SKIPPABLE_KINDS = ("files", "model")  # if MLflow refuses one, it may still accept the rest
_TICK_SECONDS = 2.0  # between uploads: a fast training must not cost a request per step
_RETRY_DELAYS = (5.0, 60.0)  # seconds; the first after a failure, and the longest
_logger = logging.getLogger("pipeline.tracking.client")
_Contents = list[dict[str, Any]]


class Uploader:
    """Uploads the lines of one journal, and saves the position in it.

    Args:
        client: of the store.
        journal: locked by this process.

    Attributes:
        run_id: MLflow's id of the run; None until it is known.
        is_complete: whether all lines so far have been uploaded.
        is_interrupted: whether the store failed and the remaining lines were not tried.
    """

    def __init__(self, client: MlflowClient, journal: Journal) -> None:
        self.run_id: str | None = None
        self.is_complete = False
        self.is_interrupted = False
        self._client = client
        self._journal = journal
        self._position = journal.load_position()
        self._uploaded_steps: dict[str, set[int]] | None = {}
        self._adds_to_run = False
        self._send_methods: dict[str, Callable[[_Contents], None]] = {
            "metrics": self._send_metrics,
            "tags": self._send_tags,
            "dataset": self._send_datasets,
            "files": self._send_files,
            "model": self._send_models,
            "arms": self._send_arms,
            "end": self._send_ends,
        }

    def upload_pending(self) -> Exception | None:
        """Upload all lines that have not been uploaded; return an error that occurred, or None."""
        self.is_complete = self.is_interrupted = False
        try:
            if self.run_id is None:
                self._open_run()
            error = self._retry_failed()
            for lines in _batch_lines(self._journal.lines(self._position.until)):
                refusal = self._upload_lines(lines)
                left = [*self._position.left, lines[0].start] if refusal else self._position.left
                self._save_position(replace(self._position, until=lines[-1].end, left=left))
                error = refusal or error
        except STORE_ERRORS as store_error:
            self._uploaded_steps = None  # the last request may have arrived nevertheless
            self.is_interrupted = True
            return store_error
        self.is_complete = not self._position.left
        return error

    def terminate_run(self, status: str, end_time: int) -> None:
        """End the run, unless it has ended after `end_time` already.

        A journal that adds to a run leaves its duration and status: those are the training's, which
        has finished, or else there would be no model to evaluate.

        Args:
            status: FINISHED, FAILED or KILLED.
            end_time: milliseconds since 1970.
        """
        previous_end = self._client.get_run(self.run_id).info.end_time or 0
        if previous_end >= end_time:
            return
        if self._adds_to_run and previous_end:
            status, end_time = "FINISHED", previous_end
        self._client.set_terminated(self.run_id, status, end_time)

    def _open_run(self) -> None:
        line = next(self._journal.lines(), None)
        if line is None:
            return
        self.run_id, is_new = experiment.find_or_create_run(self._client, line.content)
        self._adds_to_run = line.content.get("adds", False)
        if self._position.run_id not in (None, self.run_id):
            # Another store, or one that has lost the run: nothing has been uploaded there.
            self._position = Position()
        self._uploaded_steps = {} if is_new else None
        first = max(self._position.until, line.end)
        self._save_position(replace(self._position, run_id=self.run_id, until=first))

    def _save_position(self, position: Position) -> None:
        self._position = position
        self._journal.save_position(position)

    def _retry_failed(self) -> Exception | None:
        """Upload the lines that were refused before; return the error of one that still is."""
        error = None
        for start in list(self._position.left):
            refusal = self._upload_lines([next(self._journal.lines(start))])
            if refusal is None:
                left = [x for x in self._position.left if x != start]
                self._save_position(replace(self._position, left=left))
            error = refusal or error
        return error

    def _upload_lines(self, lines: list[Line]) -> Exception | None:
        """Upload lines of one kind; return the error if the kind can be skipped."""
        kind = lines[0].kind
        try:
            self._send_methods[kind]([line.content for line in lines])
        except STORE_ERRORS as error:
            if kind not in _SKIPPABLE_KINDS:
                raise
            return error
        return None

    def _send_metrics(self, contents: _Contents) -> None:
        uploaded = self._fetch_uploaded_steps()
        metrics = [
            Metric(key, value, content["time"], content["step"])
            for content in contents
            for key, value in content["values"].items()
            if content["step"] not in uploaded.get(key, ())
        ]
        if metrics:
            self._client.log_batch(self.run_id, metrics=metrics)
        for metric in metrics:
            if metric.key in HISTORY_METRICS:
                uploaded.setdefault(metric.key, set()).add(metric.step)

    def _fetch_uploaded_steps(self) -> dict[str, set[int]]:
        """The steps of HISTORY_METRICS that the store has, by metric, to send none twice."""
        if self._uploaded_steps is None:
            self._uploaded_steps = {
                key: {x.step for x in self._client.get_metric_history(self.run_id, key)}
                for key in HISTORY_METRICS
            }
        return self._uploaded_steps

    def _send_tags(self, contents: _Contents) -> None:
        for content in contents:
            tags = [RunTag(key, text) for key, text in content["tags"].items()]
            self._client.log_batch(self.run_id, tags=tags)

    def _send_datasets(self, contents: _Contents) -> None:
        for content in contents:
            name = content["name"]
            source = json.dumps({"uri": name})
            dataset = Dataset(name, content["digest"], source_type="local", source=source)
            dataset_input = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
            self._client.log_inputs(self.run_id, [dataset_input])

    def _send_files(self, contents: _Contents) -> None:
        for content in contents:
            path = self._journal.folder / content["copy"]
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self.run_id, str(path), content["under"])

    def _send_models(self, contents: _Contents) -> None:
        for content in contents:
            folder = self._journal.folder / content["copy"]
            model.log_model(self._client, str(self.run_id), folder, content)

    def _send_arms(self, contents: _Contents) -> None:
        for content in contents:
            compared = []
            # Journals of earlier versions have no "own".
            own_runs = content["own"] if "own" in content else content["arms"]
            for arm, own in zip(content["arms"], own_runs, strict=True):
                run = experiment.find_run(self._client, own)
                if run:
                    self._client.set_tag(run.info.run_id, "mlflow.parentRunId", self.run_id)
                # An arm that the experiment did not score is compared with the workspace's score.
                if run := run or experiment.find_run(self._client, arm):
                    compared.append(run.info.run_id)
            self._client.set_tag(self.run_id, "ablation.arms", ",".join(compared))

    def _send_ends(self, contents: _Contents) -> None:
        for content in contents:
            self.terminate_run(content["status"], content["time"])


class BackgroundUploader:
    """Uploads a journal in a thread until `flush`; retries, with delays, while the store fails.

    Args:
        uploader: of the journal.
        on_tick: called every few seconds, in the thread.
    """

    def __init__(self, uploader: Uploader, on_tick: Callable[[], None]) -> None:
        self._uploader = uploader
        self._on_tick = on_tick
        self._first_attempt_done = threading.Event()
        self._stop_requested = threading.Event()
        self._failed_at: float | None = None
        self._has_warned = False
        # A daemon, so that the process does not wait for a call that hangs.
        self._thread = threading.Thread(target=self._upload_loop, name="mlflow", daemon=True)

    def start(self, timeout: float) -> float:
        """Start the thread, and wait for its first attempt.

        Args:
            timeout: seconds to wait at most.

        Returns:
            The seconds that are left of it.
        """
        started_at = time.monotonic()
        self._thread.start()
        self._first_attempt_done.wait(timeout)
        return max(0.0, timeout - (time.monotonic() - started_at))

    def flush(self, timeout: float) -> bool:
        """Upload the rest, and end the thread.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether everything has been uploaded.
        """
        self._stop_requested.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn(TimeoutError(f"no answer within {timeout:.0f} seconds"))
            return False
        return self._uploader.is_complete

    def _upload_loop(self) -> None:
        next_attempt_at = delay = 0.0
        while not self._stop_requested.is_set():
            if time.monotonic() >= next_attempt_at:
                self._upload()
                first, longest = _RETRY_DELAYS
                delay = 0.0 if self._failed_at is None else min(max(first, 2 * delay), longest)
                next_attempt_at = time.monotonic() + delay
            self._on_tick()
            self._stop_requested.wait(_TICK_SECONDS)
        if self._failed_at is None or time.monotonic() - self._failed_at > _RETRY_DELAYS[0]:
            self._upload()

    def _upload(self) -> None:
        error = self._uploader.upload_pending()
        self._failed_at = time.monotonic() if self._uploader.is_interrupted else None
        if error:
            self._warn(error)
        self._first_attempt_done.set()

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            _logger.warning(store.describe_upload_failure(error))
        self._has_warned = True


def _batch_lines(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Lists of one line each, but consecutive metrics together, up to _MAX_METRICS values."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        num_values = len(line.content.get("values", ()))
        is_full = size + num_values > _MAX_METRICS
        if batch and (line.kind != "metrics" or batch[0].kind != "metrics" or is_full):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += num_values
    if batch:
        yield batch
