"""The Prefect flow `retrain`, with one task run per DVC stage."""
# No `from __future__ import annotations`: Prefect cannot resolve them in a served flow.

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from prefect import State, flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.logging import get_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed

from pipeline import dvc, locks
from pipeline.download.source_record import find_source_changes
from pipeline.flows import mlflow_links, report, tasks
from pipeline.flows.tasks import DOWNLOAD, StageRun
from pipeline.params.overrides import check_overrides
from pipeline.process_group import exit_with_parent

_PARAMS = Path("params.yaml")


# Prefect's form would show parameters that may be None as a choice of types.
@flow(name="retrain")
def retrain(
    overrides: list[str] = [],  # noqa: B006  never modified
    stages: list[str] = [],  # noqa: B006
    force: bool = False,
    promote: bool = False,
) -> State:
    """Bring the results up to date: run the stages that are stale, and skip the others.

    Args:
        overrides: Changed parameters, one per item, such as train.steps=20. The stages then run as
            a DVC experiment with the name of this flow run, and the workspace stays unchanged;
            `dvc exp apply` copies the experiment into it. Empty: params.yaml.
        stages: Stages to bring up to date, with their upstream stages; the name of a matrix, such
            as train, selects all its items. Empty: all stages.
        force: Run the selected stages even if they are up to date. Cannot be combined with
            overrides.
        promote: Afterwards let the gate decide whether the best arm of the newest ablation becomes
            the champion.
    """
    logging.getLogger("prefect.task_runs").addFilter(_filter_repeated_failures)
    try:
        with _exit_with_parent(), locks.lock_workspace(f"flow run {flow_run.name}", Path.cwd()):
            settings, graph, selected = _parse_request(overrides, stages, force=force)
            plan = dvc.transitive_reduction(dvc.upstream_subgraph(graph, selected))
            forced = _stages_with_changed_sources(plan) | (selected if force else set())
            if settings:
                return _retrain_experiment(settings, plan, promote=promote)
            return _retrain_workspace(plan, forced, promote=promote)
    except locks.LockedError as error:
        return Cancelled(message=str(error))
    except ValueError as error:
        return Failed(message=str(error))


def _exit_with_parent() -> AbstractContextManager[None]:
    """End a served run when its parent ends: it locks the folder but can no longer be cancelled."""
    # Only a runner or a worker runs a deployment, in a child process.
    run = getattr(FlowRunContext.get(), "flow_run", None)
    return exit_with_parent() if run and run.deployment_id else nullcontext()


def run_flow(
    stages: Sequence[str] = (),
    *,
    overrides: Sequence[str] = (),
    force: bool = False,
    promote: bool = False,
) -> None:
    """Run the flow in this process, for the command line.

    Args:
        stages: as for `retrain`.
        overrides: as for `retrain`.
        force: as for `retrain`.
        promote: as for `retrain`.

    Raises:
        ValueError: if an argument is invalid or a stage fails.
    """
    if stages or overrides:
        _parse_request(overrides, stages, force=force)  # before a server is started
    with _use_server():
        state = retrain(
            overrides=list(overrides),
            stages=list(stages),
            force=force,
            promote=promote,
            return_state=True,
        )
    if not state.is_completed():
        raise ValueError(state.message)


@contextmanager
def _use_server() -> Iterator[None]:
    """Use the configured Prefect server or, if there is none or it is down, a temporary one."""
    address = PREFECT_API_URL.value()
    error = None
    if address:
        with get_client(sync_client=True) as client:
            error = client.api_healthcheck()
    if error:
        get_logger().warning(
            "%s does not respond (%s): using a temporary server instead", address, error
        )
    with temporary_settings(restore_defaults={PREFECT_API_URL} if error else None):
        yield


def _filter_repeated_failures(record: logging.LogRecord) -> bool:
    """Reject Prefect's record that repeats a failure with an empty traceback."""
    return not record.getMessage().startswith("Task run failed with state")


def _parse_request(
    overrides: Sequence[str], stages: Sequence[str], *, force: bool
) -> tuple[list[str], dvc.Graph, set[str]]:
    """Return the overrides as DVC expects them, the graph, and the selected stages.

    Raises:
        ValueError: if an argument is invalid; the message lists all problems.
    """
    settings: list[str] = []
    params, problems = None, []
    if force and any(map(str.strip, overrides)):
        problems.append(
            "overrides and force cannot be combined: in the experiment DVC would also force all"
            " upstream stages; remove one of them"
        )
    try:
        settings, params = _parse_overrides(overrides)
    except ValueError as error:
        problems.append(str(error))
    graph = dvc.load_graph(params)  # overrides may change the arms, and with them the stages
    selected = set(graph)
    try:
        selected = dvc.resolve_targets(graph, stages or graph)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return settings, graph, selected


def _parse_overrides(overrides: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """Return the overrides as DVC expects them, and all parameters with them; None if unchanged."""
    if not overrides:
        return [], None
    settings, params = check_overrides(overrides, _PARAMS)
    return settings, params if settings else None


def _stages_with_changed_sources(plan: dvc.Graph) -> set[str]:
    """Return `download` if its source folder changed, which DVC does not track."""
    source = dvc.find_output("source.json") if DOWNLOAD in plan else None
    changes = find_source_changes(source) if source else []
    for change in changes:
        get_run_logger().warning("%s: running %s again", change, DOWNLOAD)
    return {DOWNLOAD} if changes else set()


def _retrain_workspace(plan: dvc.Graph, forced: set[str], *, promote: bool) -> State:
    runs = tasks.run_in_workspace(plan, forced)
    state, decision = _final_state(runs), ""
    if promote and state.is_completed():
        arms = [arm for stage in plan if (arm := stage.partition("@")[2])]
        state, decision = _run_gate(state, mlflow_links.list_arm_runs(dict.fromkeys(arms)))
    _publish_report(
        report.RetrainingReport(
            _first_line(state),
            runs,
            dvc.load_results(),
            promotion=decision,
            links=mlflow_links.list_run_links(None),
        )
    )
    return state


def _retrain_experiment(overrides: list[str], plan: dvc.Graph, *, promote: bool) -> State:
    # The name must be valid in a Git reference and on a command line.
    name = re.sub(r"[^\w-]+", "-", str(flow_run.name)).strip("-")
    runs = tasks.run_as_experiment(name, overrides, plan)
    state, decision = _final_state(runs), ""
    if promote and state.is_completed():
        state, decision = _run_gate(state, ["--experiment", name])
    _publish_report(
        report.RetrainingReport(
            _first_line(state),
            runs,
            dvc.load_results(name),
            experiment=name,
            overrides=overrides,
            promotion=decision,
            links=mlflow_links.list_run_links(name),
        )
    )
    return state


def _run_gate(state: State, promote_arguments: list[str]) -> tuple[State, str]:
    """Run `promote`; return the flow's state and the gate's report, or the error message."""
    with TemporaryDirectory(prefix="gate-") as folder:
        gate_report = Path(folder) / "gate.md"
        gate_state = tasks.run_gate(gate_report, promote_arguments, return_state=True)
        if gate_state.is_completed():
            return state, gate_report.read_text(encoding="utf-8")
    return Failed(message=f"promote: {gate_state.message}"), gate_state.message or ""


def _publish_report(retraining: report.RetrainingReport) -> None:
    """Publish the artifacts; log a warning if the server cannot store them."""
    try:
        report.publish(retraining)
    except httpx.HTTPError as error:
        get_run_logger().warning("the report could not be stored in Prefect: %s", error)


def _first_line(state: State) -> str:
    return (state.message or "").partition("\n")[0]


def _final_state(runs: list[StageRun]) -> State:
    skipped = [run.stage for run in runs if run.state.name == "NotReady"]
    if failed := tasks.list_failures(runs):
        not_run = [f"not run: {', '.join(skipped)}"] if skipped else []
        return Failed(message="; ".join(failed + not_run))
    ran = [run.stage for run in runs if run.state.name != "Cached"]
    if not ran:
        return Completed(name="Cached", message="everything is up to date")
    return Completed(message=f"ran: {', '.join(ran)}")
