"""Remembers every run in MLflow, and never lets a training wait for it or fail because of it."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipeline import provenance, store, termination
from pipeline.journal import Journal

os.environ.update(store.QUIET | os.environ)  # what the user has set stays

import mlflow
from mlflow import MlflowClient
from mlflow.tracking.context.registry import resolve_tags

from pipeline.tracking import view
from pipeline.tracking.delivery import TROUBLE, Delivery
from pipeline.tracking.origin import Origin as Origin
from pipeline.tracking.origin import origin as origin
from pipeline.tracking.run import NAMED_BY, texts
from pipeline.tracking.run import Run as Run
from pipeline.tracking.syncing import drop_earlier
from pipeline.tracking.syncing import sync as sync

TRAINING = 5.0
"""Seconds that a training waits for MLflow in all."""

LATER = 60.0
"""Seconds that others wait at most, for a model to be sent; a store that is away ends it sooner."""

_logger = logging.getLogger(__name__)
_Values = Mapping[str, object]
_Figures = Mapping[str, float | None]


@contextmanager
def training_run(
    name: str, params: _Values, tags: _Values, begun_as: str | None = None
) -> Iterator[Run]:
    """Open a run; it ends FINISHED, FAILED by an exception, KILLED by SIGTERM or ctrl-C.

    Args:
        name: of the run.
        params: all that the training is told.
        tags: what else is known.
        begun_as: key of the run in which this training was begun, if it goes on; its records are
            not doubled.
    """
    wanted = _wanted(name, params, tags) | ({"key": begun_as} if begun_as else {})
    with _until_end(name, wanted, patience=TRAINING, watch=True) as run:
        yield run


@contextmanager
def resumed_run(facts: Mapping[str, Any], name: str, tags: _Values | None = None) -> Iterator[Run]:
    """Open a run again to add to it; if the store lacks it, a new one, `{name}-restored`.

    A DVC experiment adds to runs of its own only (`provenance.own_run`).

    Args:
        facts: what run.json of the training says.
        name: of the new run.
        tags: what else is known.
    """
    own = provenance.own_run(facts)
    training = provenance.training_of(facts)
    known = {key: own.get(written) for key, written in NAMED_BY.items()}
    wanted = _wanted(name, {}, {**(tags or {}), **training}, is_new=bool(training))
    named = {key: text for key, text in known.items() if text}
    with _until_end(name, wanted | named, patience=LATER) as run:
        yield run


def ablation_run(
    name: str,
    arms: Sequence[Mapping[str, Any]],
    metrics: _Figures,
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
    with _until_end(name, _wanted(name, {}, tags or {}), patience=LATER) as run:
        run.log_arms(arms, [provenance.own_run(facts) for facts in arms])
        run.log_metrics(metrics)
        run.log_artifacts(folder, under="ablation")
    return run.id


def _wanted(name: str, params: _Values, tags: _Values, *, is_new: bool = True) -> dict[str, Any]:
    """What a run is begun with; one that is there already keeps saying where it comes from."""
    every = texts(tags)
    if is_new:
        every = {**resolve_tags(), **provenance.tags(), **every}
        every["mlflow.note.content"] = provenance.description(name, every)
        every |= view.of_arm(every)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    key = f"{now}-{name}-{uuid4().hex[:8]}"
    return {"name": name, "key": key, "params": texts(params), "tags": every, "adds": not is_new}


@contextmanager
def _until_end(
    name: str, wanted: dict[str, Any], *, patience: float, watch: bool = False
) -> Iterator[Run]:
    run = _open(name, wanted["key"], watch=watch)
    run.begin(patience, wanted)
    status = "FAILED"
    try:
        # By itself SIGTERM ends Python on the spot, and MLflow would call the run running for ever.
        with termination.unwinding():
            yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        if run.end(status) and status == "FINISHED" and watch:
            drop_earlier(run.key)


def _open(name: str, key: str, *, watch: bool) -> Run:
    try:
        journal = Journal.create(store.journals(), name)
    except OSError as trouble:
        _logger.warning(f"nothing of {name} is kept for MLflow: {trouble}")
        return Run(key, None, None)
    try:
        store.create(MlflowClient)
        mlflow.set_tracking_uri(store.uri())
        return Run(key, journal, Delivery(MlflowClient(), journal), watch=watch)
    except TROUBLE as trouble:
        _logger.warning(store.failure(trouble))
        return Run(key, journal, None)
