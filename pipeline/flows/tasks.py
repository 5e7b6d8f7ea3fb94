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

from pipeline import dvc
from pipeline.dvc.messages import read_lines
from pipeline.dvc.repro import NUM_LAST_LINES
from pipeline.process_group import start_process_group

DOWNLOAD = "download"
_STATES = {
    dvc.StageOutcome.RAN: ("Completed", "ran"),
    dvc.StageOutcome.RESTORED: ("Cached", "restored from DVC's cache of earlier runs"),
    dvc.StageOutcome.UP_TO_DATE: ("Cached", "up to date"),
}
"""Name and message of the Prefect state that stands for each outcome."""

_RETRY_DELAYS: list[float] = [600, 1800]  # seconds; the stage itself has insisted for minutes


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


def _is_transient(_task: object, _run: object, state: State[Any]) -> bool:
    return "gave up after" in (state.message or "")  # as pipeline.download.retry says it


# DVC alone decides what is fresh, and a stage that failed would fail again: no cache, no retries.
@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def run_dvc_stage(stage: str, force: bool) -> State:
    """Bring one stage of dvc.yaml up to date."""

    def bring(say: Callable[[str], None]) -> dvc.StageOutcome:
        return dvc.run_stage(stage, on_line=say, force=force, environment=stage_environment())

    return _to_state(bring)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def skip_stage(stage: str) -> State:
    """Show a stage that DVC has said to be up to date, in DVC's words."""
    get_run_logger().info("Stage '%s' didn't change, skipping", stage)
    name, message = _STATES[dvc.StageOutcome.UP_TO_DATE]
    return Completed(name=name, message=message)


# But a site that is away may be back later, and a download goes on where it was.
run_download_stage = run_dvc_stage.with_options(
    retries=len(_RETRY_DELAYS), retry_delay_seconds=_RETRY_DELAYS, retry_condition_fn=_is_transient
)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def follow_experiment_stage(stage: str, process: dvc.DvcProcess) -> State:
    """Follow one stage of an experiment that DVC runs."""
    return _to_state(lambda say: process.finish_stage(stage, say))


@task(task_run_name="promote", cache_policy=NO_CACHE)
def run_gate(report: Path, promote_arguments: list[str]) -> State:
    """Have the gate decide about the champion; it writes its reasons into a file.

    That the champion stays is a decision as well: then the command's exit status is not 0 either.

    Args:
        report: where to write them.
        promote_arguments: what `promote` is told about the challengers.
    """
    _run_command(
        "sync"
    )  # it may lack what was trained while it was away; `promote` says so if it is
    told = _run_command("promote", *promote_arguments, "--report", str(report))
    message = "\n".join(told[-NUM_LAST_LINES:])
    return Completed(message=message) if report.exists() else Failed(message=message)


def _run_command(*arguments: str) -> list[str]:
    """Run a sub-command, and pass on what it says."""
    say, told = get_run_logger().info, []
    with start_process_group([sys.executable, "-m", "pipeline", *arguments], os.environ) as process:
        assert process.stdout is not None
        for line in read_lines(process.stdout):
            told.append(line)
            say(line)
        process.wait()
    return told


def run_in_workspace(plan: dvc.Graph, forced: set[str]) -> list[StageRun]:
    """Run the stages one by one, in this thread, because that is the one a cancellation reaches."""
    runs: dict[str, StageRun] = {}
    fresh = dvc.find_up_to_date(plan, forced=forced)  # asked one by one, each would take a second
    for stage, upstream in plan.items():
        start = time.monotonic()
        waited_for = [runs[before].state for before in upstream]
        if stage in fresh:
            state = skip_stage(stage, wait_for=waited_for, return_state=True)
        else:
            run = run_download_stage if stage == DOWNLOAD else run_dvc_stage
            state = run(stage, stage in forced, wait_for=waited_for, return_state=True)
        runs[stage] = StageRun(stage, state, time.monotonic() - start)
    return list(runs.values())


def run_as_experiment(name: str, overrides: list[str], plan: dvc.Graph) -> list[StageRun]:
    """Have DVC run an experiment, and follow it stage by stage, likewise in this thread.

    Raises:
        StageFailed: if DVC fails outside of the stages.
        WorkspaceBusy: if another DVC process is in the way before the first stage.
    """
    runs: dict[str, StageRun] = {}
    say = get_run_logger().info
    with dvc.start_experiment(name, overrides, list(plan), stage_environment()) as at_work:
        while stage := at_work.next_stage(say):
            start = time.monotonic()
            upstream = [runs[before].state for before in plan[stage]]
            state = follow_experiment_stage(stage, at_work, wait_for=upstream, return_state=True)
            runs[stage] = StageRun(stage, state, time.monotonic() - start)
            if not state.is_completed():
                break
    return [runs.get(stage) or _skipped_run(stage) for stage in plan]


def stage_environment() -> dict[str, str]:
    """What the stages are told about the flow run that they belong to."""
    return {"PREFECT_FLOW_RUN_ID": str(flow_run.id)}


def list_failures(runs: Iterable[StageRun]) -> list[str]:
    """The stages that failed, each with its reason."""
    return [f"{run.stage} {run.summary}" for run in runs if run.state.is_failed()]


def _to_state(run_stage: Callable[[Callable[[str], None]], dvc.StageOutcome]) -> State:
    try:
        outcome = run_stage(get_run_logger().info)
    except dvc.WorkspaceBusyError as busy:
        return Failed(name="Busy", message=str(busy))
    except dvc.StageError as failure:
        return Failed(message=str(failure))
    name, message = _STATES[outcome]
    return Completed(name=name, message=message)


def _skipped_run(stage: str) -> StageRun:
    return StageRun(stage, Pending(name="NotReady"), 0.0)
