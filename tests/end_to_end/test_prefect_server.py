"""The pins of fastapi and sqlalchemy in pyproject.toml, which Prefect's own bounds leave open."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prefect.server.api.server import create_app
from prefect.settings import (
    PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TestClient]:
    """Prefect's server application with an empty database, started without its own services.

    They write to the database in the background, which SQLite at times refuses as locked.
    """
    settings = {
        PREFECT_HOME: tmp_path,
        PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{tmp_path}/prefect.db",
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    with (
        temporary_settings(settings),
        TestClient(create_app(ephemeral=True, webserver_only=True)) as client,
    ):
        yield client


def test_the_server_schedules_a_deployment(server: TestClient) -> None:
    """A cron schedule becomes flow runs, as the scheduler makes them.

    With fastapi from 0.160 on the application cannot be created (`Body(min_items=...)` is gone);
    with SQLAlchemy 2.1 the schedule is shown and this request, like the scheduler, fails with
    "Can't evaluate bulk DML statement", so that nothing ever runs. `pip check` finds neither.
    """
    flow = server.post("/api/flows/", json={"name": "retrain"}).json()
    body = {
        "name": "weekly",
        "flow_id": flow["id"],
        "schedules": [{"schedule": {"cron": "0 2 * * *", "timezone": "UTC"}, "active": True}],
    }
    deployment = server.post("/api/deployments/", json=body).json()
    answer = server.post(f"/api/deployments/{deployment['id']}/schedule", json={"min_runs": 3})
    assert 200 == answer.status_code
    runs = server.post("/api/flow_runs/filter", json={}).json()
    assert {"SCHEDULED"} == {run["state_type"] for run in runs}
