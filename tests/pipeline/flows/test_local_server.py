"""pipeline.flows.local_server: requests of other sites' pages are rejected."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prefect.server.api.server import create_app
from prefect.settings import (
    PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_CSRF_PROTECTION_ENABLED,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)
from starlette.websockets import WebSocketDisconnect

from pipeline.flows import services
from pipeline.flows.local_server import SameOriginMiddleware

OWN = "http://127.0.0.1:4200"
FOREIGN = "https://evil.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The server of `make up` with an empty database, without background services."""
    folder = tmp_path_factory.mktemp("prefect")
    environment = services.build_environment(mlflow_port=5000, prefect_port=4200)
    settings = {
        PREFECT_HOME: folder,
        PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{folder}/prefect.db",
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_CSRF_PROTECTION_ENABLED: environment[
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED"
        ],
    }
    with temporary_settings(settings):
        protected = SameOriginMiddleware(
            create_app(ephemeral=True, webserver_only=True),
            environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(","),
        )
        with TestClient(protected, base_url=OWN) as client:
            yield client


def test_cross_site_post_is_rejected(server: TestClient) -> None:
    """A POST request without a content type, which browsers send without preflight, gets 403."""
    forged = server.post("/api/flows/", content='{"name": "x"}', headers={"Origin": FOREIGN})
    assert 403 == forged.status_code


def test_post_without_a_token_is_rejected(server: TestClient) -> None:
    """Prefect's CSRF protection is enabled: changes require a token."""
    assert 403 == server.post("/api/flows/", json={"name": "x"}).status_code


def test_foreign_host_name_is_rejected(server: TestClient) -> None:
    """A page whose host name resolves to loopback (DNS rebinding) is rejected."""
    answer = server.get("/api/csrf-token?client=x", headers={"Host": "evil.example:4200"})
    assert 403 == answer.status_code


def test_cross_site_web_socket_is_rejected(server: TestClient) -> None:
    """A web socket of another origin, which browsers allow, is closed; it could send events."""
    with (
        pytest.raises(WebSocketDisconnect),
        server.websocket_connect("/api/events/in", headers={"Origin": FOREIGN, "Host": OWN[7:]}),
    ):
        pass


def test_own_page_may_post(server: TestClient) -> None:
    """A POST request of the own origin with a token is accepted."""
    client = "0b3a1f34-7d0c-4d3e-9f43-0f4b6cf2f1a5"
    token = server.get(f"/api/csrf-token?client={client}").json()["token"]
    headers = {"Origin": OWN, "Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}
    assert 201 == server.post("/api/flows/", json={"name": "x"}, headers=headers).status_code


def test_pages_connect_to_no_other_server(server: TestClient) -> None:
    """The policy prevents Prefect's pages from connecting to amplitude.com."""
    policy = server.get("/api/health").headers["Content-Security-Policy"]
    rules = {name: sources for name, *sources in map(str.split, policy.split(";"))}
    hosts = {source.split("//")[1] for source in rules["connect-src"]}
    assert {"127.0.0.1:4200", "localhost:4200"} == hosts
    assert ["'self'", "data:", "blob:"] == rules["img-src"]
