"""pipeline.flows.local_server: what a page of another site may not do."""

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
    """The server with the settings of `make up`, an empty database, and no services of its own."""
    folder = tmp_path_factory.mktemp("prefect")
    told = services.build_environment(mlflow_port=5000, prefect_port=4200)
    settings = {
        PREFECT_HOME: folder,
        PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{folder}/prefect.db",
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_CSRF_PROTECTION_ENABLED: told["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"],
    }
    with temporary_settings(settings):
        guarded = SameOriginMiddleware(
            create_app(ephemeral=True, webserver_only=True),
            told["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(","),
        )
        with TestClient(guarded, base_url=OWN) as client:
            yield client


def test_a_forged_post_is_refused(server: TestClient) -> None:
    """A browser posts for any page without asking first, if the type is none; here it is 403."""
    forged = server.post("/api/flows/", content='{"name": "x"}', headers={"Origin": FOREIGN})
    assert 403 == forged.status_code


def test_a_post_without_a_token_is_refused(server: TestClient) -> None:
    """Prefect's own check is on as well: who has fetched no token changes nothing."""
    assert 403 == server.post("/api/flows/", json={"name": "x"}).status_code


def test_a_name_that_was_led_here_is_refused(server: TestClient) -> None:
    """A page whose name was pointed at loopback would be of one origin with us (DNS rebinding)."""
    answer = server.get("/api/csrf-token?client=x", headers={"Host": "evil.example:4200"})
    assert 403 == answer.status_code


def test_a_foreign_page_opens_no_socket(server: TestClient) -> None:
    """Through a web socket, which no browser keeps at home, a page could send the event."""
    with (
        pytest.raises(WebSocketDisconnect),
        server.websocket_connect("/api/events/in", headers={"Origin": FOREIGN, "Host": OWN[7:]}),
    ):
        pass


def test_its_own_page_may_change_things(server: TestClient) -> None:
    """With its origin and a token a post is taken."""
    client = "0b3a1f34-7d0c-4d3e-9f43-0f4b6cf2f1a5"
    token = server.get(f"/api/csrf-token?client={client}").json()["token"]
    headers = {"Origin": OWN, "Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}
    assert 201 == server.post("/api/flows/", json={"name": "x"}, headers=headers).status_code


def test_its_pages_ask_no_other_server(server: TestClient) -> None:
    """Prefect's pages would ask amplitude.com at each load; the browser is told not to let them."""
    policy = server.get("/api/health").headers["Content-Security-Policy"]
    rules = {name: sources for name, *sources in map(str.split, policy.split(";"))}
    asked = {source.split("//")[1] for source in rules["connect-src"]}
    assert {"127.0.0.1:4200", "localhost:4200"} == asked
    assert ["'self'", "data:", "blob:"] == rules["img-src"]
