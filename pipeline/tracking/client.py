"""Records every run in MLflow, without delaying a training or failing it."""

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
"""Seconds that a training waits for MLflow in total."""

FLUSH_TIMEOUT = 60.0
"""Seconds that other runs wait at most, for the upload of a model; less if it fails."""

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
        params: all parameters of the training.
        tags: further facts about it.
        resume_key: key of the run that began this training, if it is resumed; its records are not
            logged twice.
    """
    header = _make_header(name, params, tags) | ({"key": resume_key} if resume_key else {})
    with _managed_run(name, header, timeout=TRAINING_TIMEOUT, log_system_metrics=True) as run:
        yield run


@contextmanager
def resume_run(
    facts: Mapping[str, Any], name: str, tags: _Values | None = None
) -> Iterator[TrackedRun]:
    """Open a run again to add to it; if the store has lost it, open a new one, `{name}-restored`.

    A DVC experiment adds only to runs of its own (`provenance.run_for_results`).

    Args:
        facts: run.json of the training.
        name: of the new run.
        tags: further facts about it.
    """
    run_facts = provenance.run_for_results(facts)
    evaluates = provenance.evaluates_tag(facts)
    header = _make_header(name, {}, {**(tags or {}), **evaluates}, is_new=bool(evaluates))
    for key, facts_key in RUN_REFERENCE_KEYS.items():
        if reference := run_facts.get(facts_key):
            header[key] = reference
    with _managed_run(name, header, timeout=FLUSH_TIMEOUT) as run:
        yield run


def log_ablation_run(
    name: str,
    arms: Sequence[Mapping[str, Any]],
    metrics: _Metrics,
    folder: Path,
    tags: _Values | None = None,
) -> str | None:
    """Log an ablation as the parent of the runs that it compares, and return its id.

    A run has one parent, the latest ablation; earlier ones keep the ids in a tag, `ablation.arms`.

    Args:
        name: of the run.
        arms: run.json of each arm.
        metrics: of the comparison.
        folder: with the report.
        tags: further facts: the `protocol` that the arms were scored with, the `verdict`.
    """
    with _managed_run(name, _make_header(name, {}, tags or {}), timeout=FLUSH_TIMEOUT) as run:
        run.log_arms(arms, [provenance.run_for_results(facts) for facts in arms])
        run.log_metrics(metrics)
        run.log_artifacts(folder, artifact_path="ablation")
    return run.id


def _make_header(
    name: str, params: _Values, tags: _Values, *, is_new: bool = True
) -> dict[str, Any]:
    """The first line of a journal; a run that exists already keeps the tags of its origin."""
    all_tags = to_strings(tags)
    if is_new:
        all_tags = {**resolve_tags(), **provenance.collect_tags(), **all_tags}
        all_tags["mlflow.note.content"] = provenance.describe_run(name, all_tags)
        all_tags |= ui.arm_color_tags(all_tags)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return {
        "name": name,
        "key": f"{now}-{name}-{uuid4().hex[:8]}",
        "params": to_strings(params),
        "tags": all_tags,
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
        # By default SIGTERM ends Python at once, and the run would be RUNNING in MLflow for ever.
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
    except OSError as error:
        _logger.warning(f"{name} is not recorded for MLflow: {error}")
        return TrackedRun(key, None, None)
    try:
        store.create_database(MlflowClient)
        mlflow.set_tracking_uri(store.tracking_uri())
        return TrackedRun(
            key, journal, Uploader(MlflowClient(), journal), log_system_metrics=log_system_metrics
        )
    except STORE_ERRORS as error:
        _logger.warning(store.describe_upload_failure(error))
        return TrackedRun(key, journal, None)
