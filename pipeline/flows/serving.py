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

from pipeline import workspace
from pipeline.flows import retrain

NAME = "weekly"
NEW_DATA = "segformer.data.changed"
"""The event that starts a retraining; `prefect event emit` sends it."""

_DESCRIPTION = """Brings the results up to date: new data are taken in, what DVC finds stale runs,
and the gate decides whether the new model becomes the champion. docs/retraining.md tells more."""

_OUTAGE = 3600.0  # seconds that the server may be away
_DOUBLINGS = 3  # of the pause between two questions, which are 10 s apart: 40 s at most
_ALIVE = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
_SILENCE = 90  # seconds without a heartbeat; there is one every 30
_ENDS = ("Completed", "Cached", "Failed", "Cancelled", "Crashed", "TimedOut")
_GUARD = "End retrainings whose machine died"


def serve(cron: str, timezone: str, patience: float) -> None:
    """Install the guard and serve the deployment until this process is asked to end.

    Args:
        cron: when it runs by itself.
        timezone: in which `cron` is meant.
        patience: seconds that the server may take to answer.

    Raises:
        ValueError: if there is no server, or the schedule cannot be understood.
    """
    schedule = Cron(cron, timezone=timezone)
    install_guard(patience)
    _bury_the_dead()
    _be_patient()
    retrain.serve(
        NAME,
        schedules=[schedule],
        # No limit of Prefect's: it would end a run whose server is away for minutes, and one that
        # died would hold it for five. The flow itself lets one run at a time in this folder.
        triggers=[_on_new_data()],
        parameters={"promote": True},
        description=_DESCRIPTION,
        pause_on_shutdown=False,  # whoever paused a schedule, or did not, meant it
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _be_patient() -> None:
    """Outlive a server that is away: Prefect ends after half a minute, and a training with it."""
    for who_asks in (_scheduled_run_poller, observers):  # for what to run, for what to cancel
        assert "critical_service_loop" in vars(who_asks), "not in this version of Prefect"
        vars(who_asks).update(critical_service_loop=_patient_loop)


async def _patient_loop(
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
            return await critical_service_loop(asked, interval, **options, backoff=_DOUBLINGS)
        except RuntimeError as given_up:
            is_its_own = "exceeded error threshold" in str(given_up)
            if not is_its_own or time.monotonic() - answered > _OUTAGE:
                raise


def install_guard(patience: float) -> None:
    """Have the server end a retraining that is silent: its machine died, and it blocks the next.

    The automation is there once, whoever installs it how often.

    Args:
        patience: seconds that the server may take to answer.

    Raises:
        ValueError: if there is no server.
    """
    _wait_for_server(patience)
    guard = _guard()
    with get_client(sync_client=True) as client:
        body = guard.model_dump(mode="json", exclude={"id", "owner_resource"})
        known = client.request(
            "POST", "/automations/filter", json={"automations": {"name": {"any_": [_GUARD]}}}
        ).json()
        if known:
            number = {"id": known[0]["id"]}
            client.request("PUT", "/automations/{id}", path_params=number, json=body)
        else:
            client.request("POST", "/automations/", json=body)


def _bury_the_dead() -> None:
    """Call crashed what died together with the server: the guard forgets, and knows nothing of it.

    Only this process serves the deployment, so where no retraining is at work here, none is at all.
    """
    try:
        with workspace.held("serve", Path.cwd()):
            pass
    except workspace.Taken:
        return
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            # On a shared server other projects have a deployment of that name as well.
            flow_filter=FlowFilter(name=FlowFilterName(any_=[retrain.name])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[NAME])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=_ALIVE)),
        ):
            client.set_flow_run_state(run.id, Crashed(message="Its process or machine died."))


def _guard() -> Automation:
    return Automation(
        name=_GUARD,
        description="installed by `python -m pipeline serve`",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={f"prefect.flow-run.{event}" for event in ("heartbeat", *_ENDS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            # A sign of life tells its deployment's id alone, and that is not there before `serve`.
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": retrain.name},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_SILENCE),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No sign of life for {_SILENCE} seconds: its process or machine died.",
            )
        ],
    )


def _on_new_data() -> DeploymentEventTrigger:
    return DeploymentEventTrigger(name="New data start a retraining", expect={NEW_DATA})


def _wait_for_server(patience: float) -> None:
    address = PREFECT_API_URL.value()
    if not address:
        raise ValueError(
            "PREFECT_API_URL is not set: start a Prefect server and set it, say"
            " PREFECT_API_URL=http://127.0.0.1:4200/api; `make up` starts all that is needed"
        )
    deadline = time.monotonic() + patience
    with get_client(sync_client=True) as client:
        while away := client.api_healthcheck():
            if time.monotonic() > deadline:
                raise ValueError(f"the Prefect server at {address} does not answer: {away}")
            time.sleep(1)
