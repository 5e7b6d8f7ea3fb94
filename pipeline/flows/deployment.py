"""The deployment `retrain/weekly`: its schedule, its triggers, and what guards its runs."""

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
"""The event that starts a retraining; `prefect event emit` sends it."""

_DESCRIPTION = """Brings the results up to date: new data are taken in, what DVC finds stale runs,
and the gate decides whether the new model becomes the champion. docs/retraining.md tells more."""

_MAX_OUTAGE = 3600.0  # seconds that the server may be away
_MAX_BACKOFF_DOUBLINGS = 3  # of the pause between two questions, which are 10 s apart: 40 s at most
_ACTIVE_STATES = FlowRunFilterStateType(
    any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
)
_HEARTBEAT_TIMEOUT = 90  # seconds without a heartbeat; there is one every 30
_TERMINAL_EVENTS = ("Completed", "Cached", "Failed", "Cancelled", "Crashed", "TimedOut")
_AUTOMATION_NAME = "End retrainings whose machine died"


def serve_deployment(cron: str, timezone: str, timeout: float) -> None:
    """Install the guard and serve the deployment until this process is asked to end.

    Args:
        cron: when it runs by itself.
        timezone: in which `cron` is meant.
        timeout: seconds that the server may take to answer.

    Raises:
        ValueError: if there is no server, or the schedule cannot be understood.
    """
    schedule = Cron(cron, timezone=timezone)
    install_automation(timeout)
    _mark_dead_runs_crashed()
    _tolerate_outages()
    retrain.serve(
        DEPLOYMENT_NAME,
        schedules=[schedule],
        # No limit of Prefect's: it would end a run whose server is away for minutes, and one that
        # died would hold it for five. The flow itself lets one run at a time in this folder.
        triggers=[_new_data_trigger()],
        parameters={"promote": True},
        description=_DESCRIPTION,
        pause_on_shutdown=False,  # whoever paused a schedule, or did not, meant it
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _tolerate_outages() -> None:
    """Outlive a server that is away: Prefect ends after half a minute, and a training with it."""
    for who_asks in (_scheduled_run_poller, observers):  # for what to run, for what to cancel
        assert "critical_service_loop" in vars(who_asks), "not in this version of Prefect"
        vars(who_asks).update(critical_service_loop=_outage_tolerant_loop)


async def _outage_tolerant_loop(
    workload: Callable[..., Awaitable[Any]], interval: float, **options: Any
) -> None:
    """Prefect's loop, begun anew where it gives up, until the server was away for an hour."""
    answered = time.monotonic()

    async def asked() -> None:
        nonlocal answered
        await workload()
        answered = time.monotonic()

    while True:
        try:
            return await critical_service_loop(
                asked, interval, **options, backoff=_MAX_BACKOFF_DOUBLINGS
            )
        except RuntimeError as given_up:
            is_its_own = "exceeded error threshold" in str(given_up)
            if not is_its_own or time.monotonic() - answered > _MAX_OUTAGE:
                raise


def install_automation(timeout: float) -> None:
    """Have the server end a retraining that is silent: its machine died, and it blocks the next.

    The automation is there once, whoever installs it how often.

    Args:
        timeout: seconds that the server may take to answer.

    Raises:
        ValueError: if there is no server.
    """
    _wait_for_server(timeout)
    guard = _heartbeat_automation()
    with get_client(sync_client=True) as client:
        body = guard.model_dump(mode="json", exclude={"id", "owner_resource"})
        known = client.request(
            "POST",
            "/automations/filter",
            json={"automations": {"name": {"any_": [_AUTOMATION_NAME]}}},
        ).json()
        if known:
            number = {"id": known[0]["id"]}
            client.request("PUT", "/automations/{id}", path_params=number, json=body)
        else:
            client.request("POST", "/automations/", json=body)


def _mark_dead_runs_crashed() -> None:
    """Call crashed what died together with the server: the guard forgets, and knows nothing of it.

    Only this process serves the deployment, so where no retraining is at work here, none is at all.
    """
    try:
        with locks.lock_workspace("serve", Path.cwd()):
            pass
    except locks.LockedError:
        return
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            # On a shared server other projects have a deployment of that name as well.
            flow_filter=FlowFilter(name=FlowFilterName(any_=[retrain.name])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT_NAME])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=_ACTIVE_STATES)),
        ):
            client.set_flow_run_state(run.id, Crashed(message="Its process or machine died."))


def _heartbeat_automation() -> Automation:
    return Automation(
        name=_AUTOMATION_NAME,
        description="installed by `python -m pipeline serve`",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={f"prefect.flow-run.{event}" for event in ("heartbeat", *_TERMINAL_EVENTS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            # A sign of life tells its deployment's id alone, and that is not there before `serve`.
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": retrain.name},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_HEARTBEAT_TIMEOUT),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No sign of life for {_HEARTBEAT_TIMEOUT} seconds: its process or machine died.",
            )
        ],
    )


def _new_data_trigger() -> DeploymentEventTrigger:
    return DeploymentEventTrigger(name="New data start a retraining", expect={NEW_DATA_EVENT})


def _wait_for_server(timeout: float) -> None:
    address = PREFECT_API_URL.value()
    if not address:
        raise ValueError(
            "PREFECT_API_URL is not set: start a Prefect server and set it, say"
            " PREFECT_API_URL=http://127.0.0.1:4200/api; `make up` starts all that is needed"
        )
    deadline = time.monotonic() + timeout
    with get_client(sync_client=True) as client:
        while away := client.api_healthcheck():
            if time.monotonic() > deadline:
                raise ValueError(f"the Prefect server at {address} does not answer: {away}")
            time.sleep(1)
