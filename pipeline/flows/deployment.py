"""The deployment `retrain/weekly`: its schedule, its trigger, and the automation for dead runs."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect._internal import observers
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.runner import _scheduled_run_poller
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.services import critical_service_loop

from pipeline import locks
from pipeline.flows.retrain import retrain

DEPLOYMENT_NAME = "weekly"
NEW_DATA_EVENT = "segformer.data.changed"
"""The Prefect event that starts a retraining; `prefect event emit` sends it."""

_DESCRIPTION = """Brings the results up to date: imports new data, runs the stale stages, and lets
the gate decide whether the new model becomes the champion. See docs/retraining.md."""

_MAX_OUTAGE = 3600.0  # seconds without a response of the server
_MAX_BACKOFF_DOUBLINGS = 3  # of the 10 s between two requests
_ACTIVE_STATES = FlowRunFilterStateType(
    any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
)
_HEARTBEAT_TIMEOUT = 90  # seconds without a heartbeat, which is sent every 30
_TERMINAL_EVENTS = ("Completed", "Cached", "Failed", "Cancelled", "Crashed", "TimedOut")
_AUTOMATION_NAME = "End retrainings whose machine died"


def serve_deployment(cron: str, timezone: str, timeout: float) -> None:
    """Install the automation, and serve the deployment until this process is stopped.

    Args:
        cron: schedule as a cron expression.
        timezone: time zone of the schedule.
        timeout: seconds to wait for the server.

    Raises:
        ValueError: if there is no server, or the schedule is invalid.
    """
    schedule = Cron(cron, timezone=timezone)
    install_automation(timeout)
    _mark_dead_runs_crashed()
    _tolerate_outages()
    retrain.serve(
        DEPLOYMENT_NAME,
        schedules=[schedule],
        # Without Prefect's concurrency limit: it would end a run if the server is down for minutes,
        # and a dead run would hold it for five. The flow itself locks the folder for one run.
        triggers=[_new_data_trigger()],
        parameters={"promote": True},
        description=_DESCRIPTION,
        pause_on_shutdown=False,  # only the user pauses the schedule
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _tolerate_outages() -> None:
    """Patch Prefect's loops, which end the training after half a minute without a server."""
    for module in (_scheduled_run_poller, observers):  # for scheduled runs, for cancellations
        assert "critical_service_loop" in vars(module), "not in this version of Prefect"
        vars(module).update(critical_service_loop=_outage_tolerant_loop)


async def _outage_tolerant_loop(
    workload: Callable[..., Awaitable[Any]], interval: float, **options: Any
) -> None:
    """Run Prefect's loop, and restart it when it gives up, for up to _MAX_OUTAGE."""
    last_success = time.monotonic()

    async def timed_workload() -> None:
        nonlocal last_success
        await workload()
        last_success = time.monotonic()

    while True:
        try:
            return await critical_service_loop(
                timed_workload, interval, **options, backoff=_MAX_BACKOFF_DOUBLINGS
            )
        except RuntimeError as error:
            gave_up = "exceeded error threshold" in str(error)
            if not gave_up or time.monotonic() - last_success > _MAX_OUTAGE:
                raise


def install_automation(timeout: float) -> None:
    """Create or update the automation that marks a retraining without heartbeats as crashed.

    A run whose machine died would otherwise stay in the state Running.

    Args:
        timeout: seconds to wait for the server.

    Raises:
        ValueError: if there is no server.
    """
    _wait_for_server(timeout)
    automation = _heartbeat_automation()
    with get_client(sync_client=True) as client:
        body = automation.model_dump(mode="json", exclude={"id", "owner_resource"})
        existing = client.request(
            "POST",
            "/automations/filter",
            json={"automations": {"name": {"any_": [_AUTOMATION_NAME]}}},
        ).json()
        if existing:
            path_params = {"id": existing[0]["id"]}
            client.request("PUT", "/automations/{id}", path_params=path_params, json=body)
        else:
            client.request("POST", "/automations/", json=body)


def _mark_dead_runs_crashed() -> None:
    """Mark runs as crashed that died together with the server, which the automation misses.

    Only this process serves the deployment: if no retraining runs in this folder, none runs at all.
    """
    try:
        with locks.lock_workspace("serve", Path.cwd()):
            pass
    except locks.LockedError:
        return
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            # On a shared server other projects may have a deployment of the same name.
            flow_filter=FlowFilter(name=FlowFilterName(any_=[retrain.name])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT_NAME])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=_ACTIVE_STATES)),
        ):
            client.set_flow_run_state(run.id, Crashed(message="The process or the machine died."))


def _heartbeat_automation() -> Automation:
    return Automation(
        name=_AUTOMATION_NAME,
        description="Installed by `segformer serve`",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={f"prefect.flow-run.{event}" for event in ("heartbeat", *_TERMINAL_EVENTS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            # A heartbeat has only the id of its deployment, which does not exist before `serve`.
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": retrain.name},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_HEARTBEAT_TIMEOUT),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No heartbeat for {_HEARTBEAT_TIMEOUT} seconds: the process or the machine"
                " died.",
            )
        ],
    )


def _new_data_trigger() -> DeploymentEventTrigger:
    return DeploymentEventTrigger(name="New data starts a retraining", expect={NEW_DATA_EVENT})


def _wait_for_server(timeout: float) -> None:
    address = PREFECT_API_URL.value()
    if not address:
        raise ValueError(
            "PREFECT_API_URL is not set: start a Prefect server and set its address, such as"
            " PREFECT_API_URL=http://127.0.0.1:4200/api; or start all services with `make up`"
        )
    deadline = time.monotonic() + timeout
    with get_client(sync_client=True) as client:
        while error := client.api_healthcheck():
            if time.monotonic() > deadline:
                raise ValueError(f"the Prefect server at {address} does not respond: {error}")
            time.sleep(1)
