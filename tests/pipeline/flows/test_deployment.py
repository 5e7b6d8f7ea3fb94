"""pipeline.flows.deployment: how a deployment is served, and what prefect.yaml says of the same."""

import asyncio
import inspect
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect._internal import observers
from prefect.runner import _scheduled_run_poller
from prefect.utilities import services as prefect_services
from ruamel.yaml import YAML

from pipeline import dvc
from pipeline.cli import services
from pipeline.flows import deployment as deployment_module

HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


@pytest.fixture
def deployment() -> dict[str, Any]:
    """The one deployment of prefect.yaml."""
    (found,) = YAML(typ="safe").load(Path("prefect.yaml"))["deployments"]
    return dict(found)


def test_both_ways_of_serving_agree(deployment: dict[str, Any]) -> None:
    """prefect.yaml has the name, the schedule, the event and the heartbeat of `serve`."""
    cron = inspect.signature(services.serve).parameters["cron"].default
    trigger, schedule = deployment["triggers"][0], deployment["schedules"][0]
    assert deployment_module.DEPLOYMENT_NAME == deployment["name"]
    assert cron == schedule["cron"]
    assert (deployment_module._new_data_trigger().name, [deployment_module.NEW_DATA_EVENT]) == (
        trigger["name"],
        trigger["expect"],
    )
    told = deployment["work_pool"]["job_variables"]["env"]
    assert dvc.default_environment()[HEARTBEAT] == told[HEARTBEAT]


def test_prefect_has_what_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both askers of Prefect look the loop up under the name that is replaced."""
    for who_asks in (_scheduled_run_poller, observers):
        original = prefect_services.critical_service_loop
        monkeypatch.setattr(who_asks, "critical_service_loop", original)
    deployment_module._tolerate_outages()
    assert deployment_module._outage_tolerant_loop is _scheduled_run_poller.critical_service_loop
    assert deployment_module._outage_tolerant_loop is observers.critical_service_loop


def test_a_server_that_comes_back_is_noticed_within_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long it was away, two questions are never more than 60 s apart."""
    pauses: list[float] = []

    async def no_time(seconds: float) -> None:
        pauses.append(seconds)

    async def asked() -> None:
        if len(pauses) < 40:
            raise httpx.ConnectError("away")
        raise KeyboardInterrupt  # it answers, and that is all there is to see

    monkeypatch.setattr(prefect_services.anyio, "sleep", no_time)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(deployment_module._outage_tolerant_loop(asked, 10, printer=lambda *_: None))
    assert max(pauses) <= 60


def test_a_heartbeat_of_ones_own_does_not_get_runs_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guard takes 90 s of silence for death, so `serve` sets the heartbeat whatever was set."""
    for name in dvc.default_environment():
        monkeypatch.setenv(name, os.environ.get(name, "true"))  # so that it is put back
    monkeypatch.setenv(HEARTBEAT, "120")
    services._set_default_environment()
    assert int(os.environ[HEARTBEAT]) * 2 < deployment_module._HEARTBEAT_TIMEOUT
