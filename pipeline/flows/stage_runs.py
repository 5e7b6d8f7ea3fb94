"""A task run per DVC stage, in the workspace or in an experiment."""

import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import State, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, Pending

from pipeline import repro
from pipeline.process_group import started
from pipeline.repro.running import LAST_LINES
from pipeline.repro.words import lines

DOWNLOAD = "download"
_STATES = {
    repro.Outcome.RAN: ("Completed", "ran"),
    repro.Outcome.RESTORED: ("Cached", "restored from DVC's cache of earlier runs"),
    repro.Outcome.FRESH: ("Cached", "up to date"),
}
"""Name and message of the Prefect state that stands for each outcome."""

_PAUSES: list[float] = [600, 1800]  # seconds; the stage itself has insisted for minutes


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


def _site_is_away(_task: object, _run: object, state: State[Any]) -> bool:
    return "gave up after" in (state.message or "")  # as pipeline.patience says it


# DVC alone decides what is fresh, and a stage that failed would fail again: no cache, no retries.
@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def dvc_stage(stage: str, force: bool) -> State:
    """Bring one stage of dvc.yaml up to date."""

    def bring(say: Callable[[str], None]) -> repro.Outcome:
        return repro.run_stage(stage, say=say, force=force, environment=environment())

    return _state_of(bring)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def fresh_stage(stage: str) -> State:
    """Show a stage that DVC has said to be up to date, in DVC's words."""
    get_run_logger().info("Stage '%s' didn't change, skipping", stage)
    name, message = _STATES[repro.Outcome.FRESH]
    return Completed(name=name, message=message)


# But a site that is away may be back later, and a download goes on where it was.
fetching_stage = dvc_stage.with_options(
    retries=len(_PAUSES), retry_delay_seconds=_PAUSES, retry_condition_fn=_site_is_away
)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def experiment_stage(stage: str, at_work: repro.AtWork) -> State:
    """Follow one stage of an experiment that DVC runs."""
    return _state_of(lambda say: at_work.finish(stage, say))


@task(task_run_name="promote", cache_policy=NO_CACHE)
def promotion(report: Path, whose: list[str]) -> State:
    """Have the gate decide about the champion; it writes its reasons into a file.

    That the champion stays is a decision as well: then the command's exit status is not 0 either.

    Args:
        report: where to write them.
        whose: what `promote` is told about the challengers.
    """
    _told("sync")  # it may lack what was trained while it was away; `promote` says so if it is
    told = _told("promote", *whose, "--report", str(report))
    message = "\n".join(told[-LAST_LINES:])
    return Completed(message=message) if report.exists() else Failed(message=message)


def _told(*arguments: str) -> list[str]:
    """Run a sub-command, and pass on what it says."""
    say, told = get_run_logger().info, []
    with started([sys.executable, "-m", "pipeline", *arguments], os.environ) as process:
        assert process.stdout is not None
        for line in lines(process.stdout):
            told.append(line)
            say(line)
        process.wait()
    return told


def in_workspace(plan: repro.Graph, forced: set[str]) -> list[StageRun]:
    """Run the stages one by one, in this thread, because that is the one a cancellation reaches."""
    runs: dict[str, StageRun] = {}
    fresh = repro.fresh(plan, forced=forced)  # asked one by one, each would take a second
    for stage, upstream in plan.items():
        start = time.monotonic()
        waited_for = [runs[before].state for before in upstream]
        if stage in fresh:
            state = fresh_stage(stage, wait_for=waited_for, return_state=True)
        else:
            run = fetching_stage if stage == DOWNLOAD else dvc_stage
            state = run(stage, stage in forced, wait_for=waited_for, return_state=True)
        runs[stage] = StageRun(stage, state, time.monotonic() - start)
    return list(runs.values())


def in_experiment(name: str, settings: list[str], plan: repro.Graph) -> list[StageRun]:
    """Have DVC run an experiment, and follow it stage by stage, likewise in this thread.

    Raises:
        StageFailed: if DVC fails outside of the stages.
        WorkspaceBusy: if another DVC process is in the way before the first stage.
    """
    runs: dict[str, StageRun] = {}
    say = get_run_logger().info
    with repro.experiment(name, settings, list(plan), environment()) as at_work:
        while stage := at_work.next_stage(say):
            start = time.monotonic()
            upstream = [runs[before].state for before in plan[stage]]
            state = experiment_stage(stage, at_work, wait_for=upstream, return_state=True)
            runs[stage] = StageRun(stage, state, time.monotonic() - start)
            if not state.is_completed():
                break
    return [runs.get(stage) or _not_run(stage) for stage in plan]


def environment() -> dict[str, str]:
    """What the stages are told about the flow run that they belong to."""
    return {"PREFECT_FLOW_RUN_ID": str(flow_run.id)}


def failures(runs: Iterable[StageRun]) -> list[str]:
    """The stages that failed, each with its reason."""
    return [f"{run.stage} {run.summary}" for run in runs if run.state.is_failed()]


def _state_of(bring: Callable[[Callable[[str], None]], repro.Outcome]) -> State:
    try:
        outcome = bring(get_run_logger().info)
    except repro.WorkspaceBusy as busy:
        return Failed(name="Busy", message=str(busy))
    except repro.StageFailed as failure:
        return Failed(message=str(failure))
    name, message = _STATES[outcome]
    return Completed(name=name, message=message)


def _not_run(stage: str) -> StageRun:
    return StageRun(stage, Pending(name="NotReady"), 0.0)
