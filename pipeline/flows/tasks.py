"""Prefect tasks that run DVC stages, in the workspace or in an experiment, and the gate."""

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
from pipeline.dvc.repro import NUM_LAST_LINES, LineCallback
from pipeline.process_group import start_process_group

DOWNLOAD = "download"
_STATES = {
    dvc.StageOutcome.RAN: ("Completed", "ran"),
    dvc.StageOutcome.RESTORED: ("Cached", "restored from DVC's cache of earlier runs"),
    dvc.StageOutcome.UP_TO_DATE: ("Cached", "up to date"),
}
"""Name and message of the Prefect state for each outcome."""

_UNAVAILABLE = "Unavailable"
"""Name of the state of a stage that failed because a server did not respond."""

_RETRY_DELAYS: list[float] = [600, 1800]  # seconds; the stage itself retries for minutes


@dataclass(frozen=True)
class StageRun:
    """The state of a stage in a retraining, and the seconds it took."""

    stage: str
    state: State
    seconds: float

    @property
    def summary(self) -> str:
        """The state in a few words, with the last line of output if the stage failed."""
        if self.state.name == "NotReady":
            return "not run"
        reason = (self.state.message or "").strip().rpartition("\n")[2]
        return reason if self.state.is_completed() else f"{str(self.state.name).lower()}: {reason}"


def _is_transient(_task: object, _run: object, state: State[Any]) -> bool:
    return state.name == _UNAVAILABLE


# No cache, because DVC decides what is up to date; no retries, because a stage would fail again.
@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def run_dvc_stage(stage: str, force: bool) -> State:
    """Bring one stage of dvc.yaml up to date."""

    def run_stage(log: LineCallback) -> dvc.StageOutcome:
        return dvc.run_stage(stage, on_line=log, force=force, environment=stage_environment())

    return _to_state(run_stage)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def skip_stage(stage: str) -> State:
    """Record a stage that is up to date, with the line that DVC prints for it."""
    get_run_logger().info("Stage '%s' didn't change, skipping", stage)
    name, message = _STATES[dvc.StageOutcome.UP_TO_DATE]
    return Completed(name=name, message=message)


# The site may respond again later, and the download is resumed.
run_download_stage = run_dvc_stage.with_options(
    retries=len(_RETRY_DELAYS), retry_delay_seconds=_RETRY_DELAYS, retry_condition_fn=_is_transient
)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def follow_experiment_stage(stage: str, process: dvc.DvcProcess) -> State:
    """Wait for the end of a stage of a running experiment."""
    return _to_state(lambda log: process.finish_stage(stage, log))


@task(task_run_name="promote", cache_policy=NO_CACHE)
def run_gate(report: Path, promote_arguments: list[str]) -> State:
    """Run `promote`, which decides about the champion and writes a report.

    The state is Completed if there is a report; the exit status is 1 also if the champion stays.

    Args:
        report: file to write the report to.
        promote_arguments: arguments of `promote` that name the challengers.
    """
    _run_command("sync")  # new runs may not be uploaded yet; `promote` reports a failure
    lines = _run_command("promote", *promote_arguments, "--report", str(report))
    message = "\n".join(lines[-NUM_LAST_LINES:])
    return Completed(message=message) if report.exists() else Failed(message=message)


def _run_command(*arguments: str) -> list[str]:
    """Run a command of the command line; log its output and return the lines."""
    log, lines = get_run_logger().info, []
    with start_process_group([sys.executable, "-m", "pipeline", *arguments], os.environ) as process:
        assert process.stdout is not None
        for line in read_lines(process.stdout):
            lines.append(line)
            log(line)
        process.wait()
    return lines


def run_in_workspace(plan: dvc.Graph, forced: set[str]) -> list[StageRun]:
    """Run the stages one after the other, in this thread, because cancellation reaches no other.

    Args:
        plan: the stages to bring up to date, with all upstream stages.
        forced: stages to run even if they are up to date.
    """
    runs: dict[str, StageRun] = {}
    # One query for all stages; DVC takes a second for each stage that it finds up to date.
    up_to_date = dvc.find_up_to_date(plan, forced=forced)
    for stage, upstream in plan.items():
        start = time.monotonic()
        states = [runs[name].state for name in upstream]
        if stage in up_to_date:
            state = skip_stage(stage, wait_for=states, return_state=True)
        else:
            run = run_download_stage if stage == DOWNLOAD else run_dvc_stage
            state = run(stage, stage in forced, wait_for=states, return_state=True)
        runs[stage] = StageRun(stage, state, time.monotonic() - start)
    return list(runs.values())


def run_as_experiment(name: str, overrides: list[str], plan: dvc.Graph) -> list[StageRun]:
    """Run the stages as a DVC experiment, with a task run per stage, in this thread.

    Args:
        name: name of the experiment.
        overrides: changed parameters, such as `train.steps=20`.
        plan: the stages to bring up to date, with all upstream stages.

    Raises:
        StageError: if DVC fails outside of the stages.
        WorkspaceBusyError: if another DVC process blocks the experiment before the first stage.
    """
    runs: dict[str, StageRun] = {}
    log = get_run_logger().info
    with dvc.start_experiment(name, overrides, list(plan), stage_environment()) as process:
        while stage := process.next_stage(log):
            start = time.monotonic()
            states = [runs[upstream].state for upstream in plan[stage]]
            state = follow_experiment_stage(stage, process, wait_for=states, return_state=True)
            runs[stage] = StageRun(stage, state, time.monotonic() - start)
            if not state.is_completed():
                break
    return [runs.get(stage) or _skipped_run(stage) for stage in plan]


def stage_environment() -> dict[str, str]:
    """Return the environment variables that tell the stages their flow run."""
    return {"PREFECT_FLOW_RUN_ID": str(flow_run.id)}


def list_failures(runs: Iterable[StageRun]) -> list[str]:
    """Return a line per failed stage: its name and reason."""
    return [f"{run.stage} {run.summary}" for run in runs if run.state.is_failed()]


def _to_state(run_stage: Callable[[LineCallback], dvc.StageOutcome]) -> State:
    try:
        outcome = run_stage(get_run_logger().info)
    except dvc.WorkspaceBusyError as error:
        return Failed(name="Busy", message=str(error))
    except dvc.StageError as error:
        # pipeline.cli.app ends a command with this status if all retries failed.
        is_unavailable = error.exit_status == os.EX_TEMPFAIL
        return Failed(name=_UNAVAILABLE if is_unavailable else "Failed", message=str(error))
    name, message = _STATES[outcome]
    return Completed(name=name, message=message)


def _skipped_run(stage: str) -> StageRun:
    return StageRun(stage, Pending(name="NotReady"), 0.0)
