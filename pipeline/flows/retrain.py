"""Retraining as a Prefect flow, a task run per DVC stage: the only package that imports Prefect."""
# No `from __future__ import annotations` here: Prefect cannot resolve them in a served flow.

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
from pipeline.process_group import exit_with_parent

_PARAMS = Path("params.yaml")


# Lists that may be None would be shown as a choice of types by the form.
@flow(name="retrain")
def retrain(
    overrides: list[str] = [],
    stages: list[str] = [],
    force: bool = False,
    promote: bool = False,
) -> State:
    """Bring the results up to date: every stage that DVC finds stale runs, the others say so.

    Args:
        overrides: Parameters that are to differ from params.yaml, one an item: train.steps=20. They
            run as a DVC experiment named like this flow run; the workspace stays as it is, and
            `dvc exp apply` takes the experiment over. Left empty: params.yaml as it is.
        stages: The stages to bring up to date, with all that they need; the name of a matrix, for
            example train, means all its items. Left empty: all stages.
        force: Run the stages named (all, if none is named) although nothing changed. Not together
            with overrides.
        promote: Then have the gate decide whether the best arm of the newest ablation becomes the
            champion.
    """
    logging.getLogger("prefect.task_runs").addFilter(_filter_repeated_failures)
    try:
        with _exit_with_parent(), locks.lock_workspace(f"flow run {flow_run.name}", Path.cwd()):
            settings, graph, named = _parse_request(overrides, stages, force=force)
            plan = dvc.transitive_reduction(dvc.upstream_subgraph(graph, named))
            changed = _stages_with_changed_sources(plan)
            if settings:
                return _retrain_experiment(settings, plan, promote=promote)
            return _retrain_workspace(plan, (named if force else set()) | changed, promote=promote)
    except locks.LockedError as taken:
        return Cancelled(message=str(taken))
    except ValueError as mistake:
        return Failed(message=str(mistake))


def _exit_with_parent() -> AbstractContextManager[None]:
    """End where what serves it ended: nobody could cancel it any more, and it holds the folder."""
    # Only a runner or a worker runs a deployment, in a process that it has started.
    known = getattr(FlowRunContext.get(), "flow_run", None)
    return exit_with_parent() if known and known.deployment_id else nullcontext()


def run_flow(
    stages: Sequence[str] = (),
    *,
    overrides: Sequence[str] = (),
    force: bool = False,
    promote: bool = False,
) -> None:
    """Run the flow here and now, for the command line.

    Raises:
        ValueError: if a stage failed or none could run; the message says which and why.
    """
    if stages or overrides:
        _parse_request(overrides, stages, force=force)  # before a server is started for it
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


def _filter_repeated_failures(record: logging.LogRecord) -> bool:
    """Drop the line that says a failure once more, with an empty traceback."""
    return not record.getMessage().startswith("Task run failed with state")


def _parse_request(
    overrides: Sequence[str], stages: Sequence[str], *, force: bool
) -> tuple[list[str], dvc.Graph, set[str]]:
    """What a retraining was told: its settings, DVC's graph, and the stages that are meant.

    Raises:
        ValueError: with every mistake.
    """
    settings: list[str] = []
    params, mistakes = None, []
    if force and any(map(str.strip, overrides)):
        mistakes.append(
            "overrides and force do not go together: DVC would also run again, in the experiment,"
            " all that comes before; leave one of them out"
        )
    try:
        settings, params = _parse_overrides(overrides)
    except ValueError as mistake:
        mistakes.append(str(mistake))
    graph = dvc.load_graph(params)  # they may change the arms, and with them the stages
    named = set(graph)
    try:
        named = dvc.resolve_targets(graph, stages or graph)
    except ValueError as mistake:
        mistakes.append(str(mistake))
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return settings, graph, named


def _parse_overrides(overrides: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """The overrides as DVC takes them, and the parameters with them; None: as they are."""
    if not overrides:
        return [], None
    from pipeline.params.overrides import (
        check_overrides,  # loads every stage, and with them PyTorch
    )

    settings, params = check_overrides(overrides, _PARAMS)
    return settings, params if settings else None


def _stages_with_changed_sources(plan: dvc.Graph) -> set[str]:
    """DVC cannot see the folder that the raw data was taken from, so look there."""
    source = dvc.find_output("source.json") if DOWNLOAD in plan else None
    changes = find_source_changes(source) if source else []
    for change in changes:
        get_run_logger().warning("%s, so %s runs again", change, DOWNLOAD)
    return {DOWNLOAD} if changes else set()


def _retrain_workspace(plan: dvc.Graph, forced: set[str], *, promote: bool) -> State:
    runs = tasks.run_in_workspace(plan, forced)
    state, said = _final_state(runs), ""
    if promote and state.is_completed():
        arms = [arm for stage in plan if (arm := stage.partition("@")[2])]
        state, said = _run_gate(state, mlflow_links.list_arm_runs(dict.fromkeys(arms)))
    _publish_report(
        report.RetrainingReport(
            _first_line(state),
            runs,
            dvc.load_results(),
            promotion=said,
            links=mlflow_links.list_run_links(None),
        )
    )
    return state


def _retrain_experiment(overrides: list[str], plan: dvc.Graph, *, promote: bool) -> State:
    # It becomes a part of a name in Git, and of one on a command line.
    name = re.sub(r"[^\w-]+", "-", str(flow_run.name)).strip("-")
    runs = tasks.run_as_experiment(name, overrides, plan)
    state, said = _final_state(runs), ""
    if promote and state.is_completed():
        state, said = _run_gate(state, ["--experiment", name])
    results, runs_in_mlflow = dvc.load_results(name), mlflow_links.list_run_links(name)
    _publish_report(
        report.RetrainingReport(
            _first_line(state), runs, results, name, overrides, said, runs_in_mlflow
        )
    )
    return state


def _run_gate(state: State, promote_arguments: list[str]) -> tuple[State, str]:
    """Ask the gate about these challengers: the state of all, and what the gate said."""
    with TemporaryDirectory(prefix="gate-") as folder:
        reasons = Path(folder) / "gate.md"
        decision = tasks.run_gate(reasons, promote_arguments, return_state=True)
        if decision.is_completed():
            return state, reasons.read_text(encoding="utf-8")
    return Failed(message=f"promote: {decision.message}"), decision.message or ""


def _publish_report(retraining: report.RetrainingReport) -> None:
    """Make the artifacts; a server that went away in the meantime does not undo the work."""
    try:
        report.publish(retraining)
    except httpx.HTTPError as trouble:
        get_run_logger().warning("the report could not be stored in Prefect: %s", trouble)


def _first_line(state: State) -> str:
    return (state.message or "").partition("\n")[0]


def _final_state(runs: list[StageRun]) -> State:
    skipped = [run.stage for run in runs if run.state.name == "NotReady"]
    if failed := tasks.list_failures(runs):
        left = [f"not run: {', '.join(skipped)}"] if skipped else []
        return Failed(message="; ".join(failed + left))
    ran = [run.stage for run in runs if run.state.name != "Cached"]
    if not ran:
        return Completed(name="Cached", message="everything is up to date")
    return Completed(message=f"ran: {', '.join(ran)}")
