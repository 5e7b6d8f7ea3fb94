"""The bounds of fastapi and sqlalchemy in pyproject.toml, which Prefect itself leaves open."""

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
    """Prefect's server application with an empty database, without background services.

    These write to the database at the same time, so that SQLite may report it as locked.
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


def test_server_schedules_a_deployment(server: TestClient) -> None:
    """The server creates flow runs from a cron schedule, as its scheduler does.

    With fastapi 0.160 or later the application cannot be created (`Body(min_items=...)` was
    removed). With SQLAlchemy 2.1 the schedule is stored, but this request, like the scheduler,
    fails with "Can't evaluate bulk DML statement", and nothing runs. `pip check` finds neither.
    """
    flow = server.post("/api/flows/", json={"name": "retrain"}).json()
    body = {
        "name": "weekly",
        "flow_id": flow["id"],
        "schedules": [{"schedule": {"cron": "0 2 * * *", "timezone": "UTC"}, "active": True}],
    }
    deployment = server.post("/api/deployments/", json=body).json()
    response = server.post(f"/api/deployments/{deployment['id']}/schedule", json={"min_runs": 3})
    assert 200 == response.status_code
    runs = server.post("/api/flow_runs/filter", json={}).json()
    assert {"SCHEDULED"} == {run["state_type"] for run in runs}
