"""Remembers every run in MLflow, and never lets a training wait for it or fail because of it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
from mlflow import MlflowClient
from mlflow.tracking.context.registry import resolve_tags

from pipeline import signals
from pipeline.tracking import provenance, store, ui
from pipeline.tracking.journal import Journal
from pipeline.tracking.run import RUN_REFERENCE_KEYS, TrackedRun, to_strings
from pipeline.tracking.sync import remove_earlier_journals
from pipeline.tracking.uploader import STORE_ERRORS, Uploader

TRAINING_TIMEOUT = 5.0
"""Seconds that a training waits for MLflow in all."""

FLUSH_TIMEOUT = 60.0
"""Seconds that others wait at most, for a model to be sent; a store that is away ends it sooner."""

_logger = logging.getLogger(__name__)
_Values = Mapping[str, object]
_Metrics = Mapping[str, float | None]


@contextmanager
def start_training_run(
    name: str, params: _Values, tags: _Values, resume_key: str | None = None
) -> Iterator[TrackedRun]:
    """Open a run; it ends FINISHED, FAILED by an exception, KILLED by SIGTERM or ctrl-C.

    Args:
        name: of the run.
        params: all that the training is told.
        tags: what else is known.
        resume_key: key of the run in which this training was begun, if it goes on; its records are
            not doubled.
    """
    wanted = _make_header(name, params, tags) | ({"key": resume_key} if resume_key else {})
    with _managed_run(name, wanted, timeout=TRAINING_TIMEOUT, log_system_metrics=True) as run:
        yield run


@contextmanager
def resume_run(
    facts: Mapping[str, Any], name: str, tags: _Values | None = None
) -> Iterator[TrackedRun]:
    """Open a run again to add to it; if the store lacks it, a new one, `{name}-restored`.

    A DVC experiment adds to runs of its own only (`provenance.own_run`).

    Args:
        facts: what run.json of the training says.
        name: of the new run.
        tags: what else is known.
    """
    own = provenance.run_for_results(facts)
    training = provenance.evaluates_tag(facts)
    known = {key: own.get(written) for key, written in RUN_REFERENCE_KEYS.items()}
    wanted = _make_header(name, {}, {**(tags or {}), **training}, is_new=bool(training))
    named = {key: text for key, text in known.items() if text}
    with _managed_run(name, wanted | named, timeout=FLUSH_TIMEOUT) as run:
        yield run


def log_ablation_run(
    name: str,
    arms: Sequence[Mapping[str, Any]],
    metrics: _Metrics,
    folder: Path,
    tags: _Values | None = None,
) -> str | None:
    """Write down an ablation as the parent of the runs it compares, and return its id.

    A run has one parent, the latest ablation; earlier ones keep the ids in a tag, `ablation.arms`.

    Args:
        name: of the run.
        arms: what run.json of each arm says.
        metrics: the figures that sum it up.
        folder: with the report.
        tags: what else is known: the `protocol` by which the arms were scored, the `verdict`.
    """
    with _managed_run(name, _make_header(name, {}, tags or {}), timeout=FLUSH_TIMEOUT) as run:
        run.log_arms(arms, [provenance.run_for_results(facts) for facts in arms])
        run.log_metrics(metrics)
        run.log_artifacts(folder, artifact_path="ablation")
    return run.id


def _make_header(
    name: str, params: _Values, tags: _Values, *, is_new: bool = True
) -> dict[str, Any]:
    """What a run is begun with; one that is there already keeps saying where it comes from."""
    every = to_strings(tags)
    if is_new:
        every = {**resolve_tags(), **provenance.collect_tags(), **every}
        every["mlflow.note.content"] = provenance.describe_run(name, every)
        every |= ui.arm_color_tags(every)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    key = f"{now}-{name}-{uuid4().hex[:8]}"
    return {
        "name": name,
        "key": key,
        "params": to_strings(params),
        "tags": every,
        "adds": not is_new,
    }


@contextmanager
def _managed_run(
    name: str, header: dict[str, Any], *, timeout: float, log_system_metrics: bool = False
) -> Iterator[TrackedRun]:
    run = _create_run(name, header["key"], log_system_metrics=log_system_metrics)
    run.begin(timeout, header)
    status = "FAILED"
    try:
        # By itself SIGTERM ends Python on the spot, and MLflow would call the run running for ever.
        with signals.exit_on_sigterm():
            yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        if run.end(status) and status == "FINISHED" and log_system_metrics:
            remove_earlier_journals(run.key)


def _create_run(name: str, key: str, *, log_system_metrics: bool) -> TrackedRun:
    try:
        journal = Journal.create(store.journals_folder(), name)
    except OSError as trouble:
        _logger.warning(f"nothing of {name} is kept for MLflow: {trouble}")
        return TrackedRun(key, None, None)
    try:
        store.create_database(MlflowClient)
        mlflow.set_tracking_uri(store.tracking_uri())
        return TrackedRun(
            key, journal, Uploader(MlflowClient(), journal), log_system_metrics=log_system_metrics
        )
    except STORE_ERRORS as trouble:
        _logger.warning(store.describe_upload_failure(trouble))
        return TrackedRun(key, journal, None)
