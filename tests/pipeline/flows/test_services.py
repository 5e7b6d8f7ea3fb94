"""pipeline.flows.services: what `make up` refuses, and what it tells the servers."""

import socket
from pathlib import Path

import pytest

from pipeline.flows import services


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_a_taken_port_is_named() -> None:
    """A port that somebody has is refused with the variable that chooses another one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"port {port} .* MLFLOW_PORT={port + 1} make up"):
            services.check_startup({"MLFLOW_PORT": port})


def test_one_port_for_both_is_refused() -> None:
    """Two servers cannot have one port, and the check of each alone would not find it."""
    with pytest.raises(ValueError, match="MLFLOW_PORT and PREFECT_PORT are the same port, 4321"):
        services.check_startup({"MLFLOW_PORT": 4321, "PREFECT_PORT": 4321})


def test_a_folder_has_one_make_up(tmp_path: Path) -> None:
    """A second one is refused whatever its ports; the first one's end frees the folder."""
    with (
        services.lock_services(tmp_path / "lock"),
        pytest.raises(ValueError, match="`make up` is already running in this folder"),
        services.lock_services(tmp_path / "lock"),
    ):
        pass
    with services.lock_services(tmp_path / "lock"):
        pass


def test_a_server_of_ones_own_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the address of a server is set, none is started; its password is not shown."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@runs.example")
    with pytest.raises(ValueError, match=r"MLFLOW_TRACKING_URI is set to https://\*\*\*@runs"):
        services.check_startup({})


def test_a_cache_on_a_disk_that_is_away_is_named(tmp_path: Path) -> None:
    """A cache that the configuration puts elsewhere has to be there."""
    with pytest.raises(ValueError, match=r"DVC's cache is to be at .*, and that is not there"):
        services._check_cache(tmp_path / "mount" / "cache")


def test_an_empty_cache_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing in the cache one learns that the first retraining starts from nothing."""
    services._check_cache(tmp_path)
    assert (
        "is empty: the first retraining makes everything from the start" in capsys.readouterr().out
    )


def test_nothing_reports_home_and_no_other_page_may_call() -> None:
    """Telemetry is off, addresses are loopback's, and Prefect answers its own page alone."""
    told = services.build_environment(mlflow_port=5000, prefect_port=4200)
    assert ("true", "true", "false") == (
        told["DO_NOT_TRACK"],
        told["MLFLOW_DISABLE_TELEMETRY"],
        told["PREFECT_SERVER_ANALYTICS_ENABLED"],
    )
    assert "http://127.0.0.1:4200/api" == told["PREFECT_API_URL"]
    assert (
        "http://127.0.0.1:4200,http://localhost:4200"
        == (told["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"])
    )


def test_every_server_listens_on_loopback() -> None:
    """Both servers of the Procfile are given loopback's address."""
    lines = [line for line in services.PROCFILE.read_text().splitlines() if " --port " in line]
    assert 2 == len(lines)
    assert all("--host 127.0.0.1" in line for line in lines)
