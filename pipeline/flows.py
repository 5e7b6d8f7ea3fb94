"""Retraining as a Prefect flow, a task run per DVC stage: the only file that imports Prefect."""
# No `from __future__ import annotations` here: Prefect cannot resolve them in a served flow.

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.logging import get_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed

from pipeline import repro
from pipeline.stages.download import source_changes

_DOWNLOAD = "download"
_STATES = {
    repro.Outcome.RAN: ("Completed", "ran"),
    repro.Outcome.RESTORED: ("Cached", "restored from DVC's cache of earlier runs"),
    repro.Outcome.FRESH: ("Cached", "up to date"),
}
"""Name and message of the Prefect state that stands for each outcome."""


@dataclass(frozen=True)
class StageRun:
    """What became of one stage."""

    stage: str
    state: State
    seconds: float

    @property
    def summary(self) -> str:
        """In a few words, the last line of its output if it failed."""
        if self.state.name == "NotReady":
            return "not run"
        reason = (self.state.message or "").strip().rpartition("\n")[2]
        return reason if self.state.is_completed() else f"{str(self.state.name).lower()}: {reason}"


# DVC alone decides what is fresh, and a stage that failed would fail again: no cache, no retries.
@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def dvc_stage(stage: str, force: bool) -> State:
    """Bring one stage of dvc.yaml up to date."""
    try:
        outcome = repro.run_stage(
            stage,
            say=get_run_logger().info,
            force=force,
            environment={"PREFECT_FLOW_RUN_ID": str(flow_run.id)},
        )
    except repro.WorkspaceBusy as busy:
        return Failed(name="Busy", message=str(busy))
    except repro.StageFailed as failure:
        return Failed(message=str(failure))
    name, message = _STATES[outcome]
    return Completed(name=name, message=message)


@flow(name="retrain")
def retrain(stages: list[str] | None = None, force: bool = False) -> State:
    """Bring the results up to date: every stage that DVC finds stale runs, the others say so.

    Args:
        stages: The stages to bring up to date, with all that they need; the name of a matrix, for
            example train, means all its items. Left empty: all stages.
        force: Run the stages named (all, if none is named) although nothing changed.
    """
    logging.getLogger("prefect.task_runs").addFilter(_is_news)
    try:
        graph = repro.graph()
        named = repro.targets(graph, stages or graph)
        plan = repro.with_upstream(graph, named)
        forced = (named if force else set()) | _stages_with_changed_sources(plan)
    except ValueError as mistake:
        return Failed(message=str(mistake))
    runs = _run(plan, forced)
    create_markdown_artifact(_report(runs), key="retrain", description="What ran and what came out")
    return _verdict(runs)


def run(stages: list[str] | None, force: bool) -> None:
    """Run the flow here and now, for the command line.

    Raises:
        ValueError: if a stage failed or none could run; the message says which and why.
    """
    with _server():
        state = retrain(stages=stages, force=force, return_state=True)
    if not state.is_completed():
        raise ValueError(state.message)


@contextmanager
def _server() -> Iterator[None]:
    """Use the Prefect server that is set, or, if it does not answer, a temporary one."""
    address = PREFECT_API_URL.value()
    away = None
    if address:
        with get_client(sync_client=True) as client:
            away = client.api_healthcheck()
    if away:
        get_logger().warning("%s does not answer (%s): going on without it", address, away)
    with temporary_settings(restore_defaults={PREFECT_API_URL} if away else None):
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Drop the line that says a failure once more, with an empty traceback."""
    return not record.getMessage().startswith("Task run failed with state")


def _stages_with_changed_sources(plan: repro.Graph) -> set[str]:
    """DVC cannot see the folder that the raw data was taken from, so look there."""
    source = repro.output("source.json") if _DOWNLOAD in plan else None
    changes = source_changes(source) if source else []
    for change in changes:
        get_run_logger().warning("%s, so %s runs again", change, _DOWNLOAD)
    return {_DOWNLOAD} if changes else set()


def _run(plan: repro.Graph, forced: set[str]) -> list[StageRun]:
    """Run the stages one by one, in this thread, because that is the one a cancellation reaches."""
    runs: dict[str, StageRun] = {}
    for stage, upstream in plan.items():
        start = time.monotonic()
        state = dvc_stage(
            stage,
            stage in forced,
            wait_for=[runs[before].state for before in upstream],
            return_state=True,
        )
        runs[stage] = StageRun(stage, state, time.monotonic() - start)
    return list(runs.values())


def _verdict(runs: list[StageRun]) -> State:
    failed = [f"{run.stage} {run.summary}" for run in runs if run.state.is_failed()]
    skipped = [run.stage for run in runs if run.state.name == "NotReady"]
    if failed:
        left = [f"not run: {', '.join(skipped)}"] if skipped else []
        return Failed(message="; ".join(failed + left))
    ran = [run.stage for run in runs if run.state.name != "Cached"]
    if not ran:
        return Completed(name="Cached", message="everything is up to date")
    return Completed(message=f"ran: {', '.join(ran)}")


def _report(runs: list[StageRun]) -> str:
    """Write the report in Markdown: the stages, the scores, the ablation."""
    rows = [f"| {run.stage} | {run.summary} | {run.seconds:.1f} |" for run in runs]
    parts = ["| stage | state | seconds |\n|---|---|---:|\n" + "\n".join(rows)]
    scores = [
        f"| {Path(path).parent.name} | {_fraction(values['miou'])} "
        f"| {_fraction(values.get('miou_low'))} to {_fraction(values.get('miou_high'))} "
        f"| {values.get('protocol', '')} |"
        for path, values in repro.metrics().items()
        if "miou" in values
    ]
    if scores:
        head = "| arm | mIoU | 95 % interval | protocol |\n|---|---:|---|---|\n"
        parts.append(head + "\n".join(scores))
    ablation = repro.output("ablation.md")
    if ablation and ablation.is_file():
        parts.append(ablation.read_text(encoding="utf-8"))
    return "\n\n".join(parts)


def _fraction(value: float | None) -> str:
    """Format a score; one that is undefined (say, no class occurs) is a dash."""
    return "-" if value is None else f"{value:.4f}"
