"""Tells MLflow what a journal holds: each thing once, however often it is tried."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.journal import Journal, Line, Sent
from pipeline.tracking import finding, model

TROUBLE = (MlflowException, requests.RequestException, SQLAlchemyError, OSError)
"""How a store fails."""

HISTORY = {f"train/{name}": name for name in ("loss", "learning_rate", "images_per_second")}
HISTORY["val/miou"] = "val_miou"
"""The records of a training: by MLflow's name, the attribute of Progress. One value per step."""

_BATCH = 500  # figures; MLflow takes 1000 at once
_ALONE = ("files", "model")
"""If MLflow refuses one of these, it may still take the rest."""


class Delivery:
    """Sends the lines of one journal, and notes in it what was sent.

    Attributes:
        run_id: MLflow's id of the run, once it is known.
        is_whole: whether all lines there are have been sent.
        is_cut_off: whether the store failed so that nothing more was tried.
    """

    def __init__(self, client: MlflowClient, journal: Journal) -> None:
        self.run_id: str | None = None
        self.is_whole = False
        self.is_cut_off = False
        self._client = client
        self._journal = journal
        self._sent = journal.sent()
        self._known: dict[str, set[int]] | None = {}
        self._adds = False

    def advance(self) -> Exception | None:
        """Send all that has not been sent; return what went wrong, if something did."""
        self.is_whole = self.is_cut_off = False
        try:
            if self.run_id is None:
                self._begin()
            trouble = self._send_left()
            for lines in _groups(self._journal.lines(self._sent.until)):
                refusal = self._attempt(lines)
                left = [*self._sent.left, lines[0].start] if refusal else self._sent.left
                self._mark(replace(self._sent, until=lines[-1].end, left=left))
                trouble = refusal or trouble
        except TROUBLE as failure:
            self._known = None  # what was sent last may have arrived all the same
            self.is_cut_off = True
            return failure
        self.is_whole = not self._sent.left
        return trouble

    def _begin(self) -> None:
        line = next(self._journal.lines(), None)
        if line is None:
            return
        self.run_id, is_new = finding.begin(self._client, line.content)
        self._adds = line.content.get("adds", False)
        if self._sent.run_id not in (None, self.run_id):
            self._sent = Sent()  # another store, or that run is gone: this one lacks everything
        self._known = {} if is_new else None
        first = max(self._sent.until, line.end)
        self._mark(replace(self._sent, run_id=self.run_id, until=first))

    def _mark(self, sent: Sent) -> None:
        self._sent = sent
        self._journal.mark(sent)

    def _send_left(self) -> Exception | None:
        """Try those that were refused before once more; return why one still is."""
        trouble = None
        for start in list(self._sent.left):
            refusal = self._attempt([next(self._journal.lines(start))])
            if refusal is None:
                self._mark(replace(self._sent, left=[x for x in self._sent.left if x != start]))
            trouble = refusal or trouble
        return trouble

    def _attempt(self, lines: list[Line]) -> Exception | None:
        """Send lines of one kind; return the refusal of one that may be left behind."""
        try:
            getattr(self, f"_send_{lines[0].kind}")([line.content for line in lines])
        except TROUBLE as refusal:
            if lines[0].kind not in _ALONE:
                raise
            return refusal
        return None

    def _send_metrics(self, lines: list[dict[str, Any]]) -> None:
        known = self._recall()
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

    def _recall(self) -> dict[str, set[int]]:
        """Which steps of the training's history the store has, for none to be there twice."""
        if self._known is None:
            histories = {key: self._client.get_metric_history(self.run_id, key) for key in HISTORY}
            self._known = {key: {point.step for point in x} for key, x in histories.items()}
        return self._known

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
            model.log(self._client, str(self.run_id), self._journal.folder / line["copy"], line)

    def _send_arms(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            compared = []
            for arm, own in zip(line["arms"], line.get("own", line["arms"]), strict=True):
                run = finding.find(self._client, own)
                if run:
                    self._client.set_tag(run.info.run_id, "mlflow.parentRunId", self.run_id)
                # What an experiment compares and did not score is as the workspace scored it.
                if run := run or finding.find(self._client, arm):
                    compared.append(run.info.run_id)
            self._client.set_tag(self.run_id, "ablation.arms", ",".join(compared))

    def _send_end(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            self.end(line["status"], line["time"])

    def end(self, status: str, when: int) -> None:
        """Close the run, unless it was ended later than `when` already; milliseconds since 1970.

        What only adds to a run leaves it as it ended, so that duration and status are those of the
        training: it has finished, or else there would be no model to say something of.
        """
        ended = self._client.get_run(self.run_id).info.end_time or 0
        if ended < when:
            how = ("FINISHED", ended) if self._adds and ended else (status, when)
            self._client.set_terminated(self.run_id, *how)


def _groups(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Lines one by one, but figures that follow each other together."""
    group: list[Line] = []
    size = 0
    for line in lines:
        width = len(line.content.get("values", ()))
        if group and (
            line.kind != "metrics" or group[0].kind != "metrics" or size + width > _BATCH
        ):
            yield group
            group, size = [], 0
        group.append(line)
        size += width
    if group:
        yield group
