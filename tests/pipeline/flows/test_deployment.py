"""pipeline.flows.deployment, and its agreement with prefect.yaml."""

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
    """The only deployment in prefect.yaml."""
    (deployment,) = YAML(typ="safe").load(Path("prefect.yaml"))["deployments"]
    return dict(deployment)


def test_prefect_yaml_matches_serve(deployment: dict[str, Any]) -> None:
    """prefect.yaml has the name, the schedule, the event and the heartbeat of `serve`."""
    cron = inspect.signature(services.serve).parameters["cron"].default
    trigger, schedule = deployment["triggers"][0], deployment["schedules"][0]
    assert deployment_module.DEPLOYMENT_NAME == deployment["name"]
    assert cron == schedule["cron"]
    assert (deployment_module._new_data_trigger().name, [deployment_module.NEW_DATA_EVENT]) == (
        trigger["name"],
        trigger["expect"],
    )
    environment = deployment["work_pool"]["job_variables"]["env"]
    assert dvc.default_environment()[HEARTBEAT] == environment[HEARTBEAT]


def test_patched_loop_exists_in_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both modules of Prefect look the loop up under the name that is patched."""
    for module in (_scheduled_run_poller, observers):
        original = prefect_services.critical_service_loop
        monkeypatch.setattr(module, "critical_service_loop", original)
    deployment_module._tolerate_outages()
    assert deployment_module._outage_tolerant_loop is _scheduled_run_poller.critical_service_loop
    assert deployment_module._outage_tolerant_loop is observers.critical_service_loop


def test_requests_are_at_most_a_minute_apart_in_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long an outage is, two requests are never more than 60 s apart."""
    pauses: list[float] = []

    async def record_pause(seconds: float) -> None:
        pauses.append(seconds)

    async def request() -> None:
        if len(pauses) < 40:
            raise httpx.ConnectError("no server")
        raise KeyboardInterrupt  # ends the test

    monkeypatch.setattr(prefect_services.anyio, "sleep", record_pause)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(deployment_module._outage_tolerant_loop(request, 10, printer=lambda *_: None))
    assert max(pauses) <= 60


def test_serve_overrides_the_heartbeat_frequency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`serve` overrides the heartbeat, since runs without one for 90 s are marked as crashed."""
    for name in dvc.default_environment():
        monkeypatch.setenv(name, os.environ.get(name, "true"))  # restored after the test
    monkeypatch.setenv(HEARTBEAT, "120")
    services._set_default_environment()
    assert int(os.environ[HEARTBEAT]) * 2 < deployment_module._HEARTBEAT_TIMEOUT
