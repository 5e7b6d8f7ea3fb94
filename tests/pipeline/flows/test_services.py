"""pipeline.flows.services: the checks of `make up`, and the servers' environment."""

import socket
from pathlib import Path

import pytest

from pipeline.flows import services


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_port_in_use() -> None:
    """The error for a port in use has the variable that sets another port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ValueError, match=rf"port {port} .* MLFLOW_PORT={port + 1} make up"):
            services.check_startup({"MLFLOW_PORT": port})


def test_same_port_for_both_servers() -> None:
    """The same port for two servers is rejected, which the check of each port would not find."""
    with pytest.raises(ValueError, match="MLFLOW_PORT and PREFECT_PORT are both 4321"):
        services.check_startup({"MLFLOW_PORT": 4321, "PREFECT_PORT": 4321})


def test_only_one_make_up_per_folder(tmp_path: Path) -> None:
    """A second `make up` is rejected until the first one ends."""
    with (
        services.lock_services(tmp_path / "lock"),
        pytest.raises(ValueError, match="`make up` is already running in this folder"),
        services.lock_services(tmp_path / "lock"),
    ):
        pass
    with services.lock_services(tmp_path / "lock"):
        pass


def test_configured_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the address of a server is set, none is started; the error hides the password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@runs.example")
    with pytest.raises(ValueError, match=r"MLFLOW_TRACKING_URI is set to https://\*\*\*@runs"):
        services.check_startup({})


def test_missing_cache_folder(tmp_path: Path) -> None:
    """A configured cache folder that does not exist is named."""
    with pytest.raises(
        ValueError, match=r"DVC's cache folder .*/mount/cache does not exist: mount"
    ):
        services._check_cache(tmp_path / "mount" / "cache")


def test_empty_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With an empty cache a message says that the first retraining runs all stages."""
    services._check_cache(tmp_path)
    assert "is empty: the first retraining runs all stages" in capsys.readouterr().out


def test_environment_disables_telemetry_and_cross_site_requests() -> None:
    """Telemetry is off, addresses are on loopback, and Prefect allows only its own origin."""
    environment = services.build_environment(mlflow_port=5000, prefect_port=4200)
    assert ("true", "true", "false") == (
        environment["DO_NOT_TRACK"],
        environment["MLFLOW_DISABLE_TELEMETRY"],
        environment["PREFECT_SERVER_ANALYTICS_ENABLED"],
    )
    assert "http://127.0.0.1:4200/api" == environment["PREFECT_API_URL"]
    assert (
        "http://127.0.0.1:4200,http://localhost:4200"
        == (environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"])
    )


def test_servers_listen_on_loopback() -> None:
    """Both servers of the Procfile listen on the loopback address."""
    lines = [line for line in services.PROCFILE.read_text().splitlines() if " --port " in line]
    assert 2 == len(lines)
    assert all("--host 127.0.0.1" in line for line in lines)
