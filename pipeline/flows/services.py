"""Starts MLflow, Prefect and the scheduled retraining on this machine, and ends them together."""

import os
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import requests

from pipeline import dvc
from pipeline.flows import procfile
from pipeline.locks import exclusive
from pipeline.params import load
from pipeline.paths import project_root
from pipeline.tracking import store

PROCFILE = Path("Procfile")
_LOCK_FILE = Path(".work/up.lock")
_HOST = "127.0.0.1"
_STARTUP_TIMEOUT = 240  # seconds until all answer


def start_services(*, mlflow_port: int, prefect_port: int) -> None:
    """Start all, say where they are once they answer, and wait until they end.

    Args:
        mlflow_port: of MLflow's server, on loopback.
        prefect_port: of Prefect's, likewise.

    Raises:
        ValueError: if something is in the way, or one of them ended by itself.
    """
    with lock_services(project_root() / _LOCK_FILE):
        check_startup({"MLFLOW_PORT": mlflow_port, "PREFECT_PORT": prefect_port})
        surroundings = build_environment(mlflow_port=mlflow_port, prefect_port=prefect_port)
        Path(surroundings["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
        # MLflow's server makes its database step by step; one ended half-way leaves it unusable.
        made = subprocess.run(
            [sys.executable, "-m", "pipeline.tracking.create_database"], check=False
        )
        if made.returncode:
            raise ValueError(
                f"{store.database_path()} cannot be made or read: the lines above say why"
            )
        procfile.run_procfile(PROCFILE, surroundings, partial(_announce, surroundings, time.time()))


def lock_services(lock_file: Path) -> AbstractContextManager[None]:
    """Hold the folder for one `make up`: two would share its databases, whatever their ports.

    Args:
        lock_file: the lock file.

    Raises:
        LockedError: if another `make up` holds it.
    """

    def refusal(holder: str) -> str:
        return (
            f"`make up` is already running in this folder ({lock_file} is held by {holder}):"
            " use the services it started, or end it with ctrl-C in its terminal"
        )

    return exclusive(lock_file, refusal)


def check_startup(ports: dict[str, int]) -> None:
    """Refuse to start where it cannot work; say what will take long.

    Args:
        ports: by the variable that sets another one.

    Raises:
        ValueError: with what is in the way.
    """
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        if address := os.environ.get(name):
            raise ValueError(
                f"{name} is set to {store.redact_secrets(address)}, and `make up` starts servers"
                f" of its own: unset it, or serve to yours with `python -m pipeline serve`"
            )
    if len(set(ports.values())) < len(ports):
        raise ValueError(
            f"{' and '.join(ports)} are the same port, {', '.join(map(str, ports.values()))}: each"
            " server needs one of its own"
        )
    for name, port in ports.items():
        _check_port(name, port)
    load.load_config(Path("params.yaml"))
    dvc.load_graph()
    _check_cache(dvc.cache_folder())


def _check_port(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((_HOST, port))
        except OSError as trouble:
            raise ValueError(
                f"port {port} of {_HOST} cannot be had ({trouble.strerror}): `lsof -i :{port}` says"
                f" who has it; end that, perhaps an earlier `make up`, or choose another:"
                f" {name}={port + 1} make up"
            ) from None


def _check_cache(folder: Path) -> None:
    default = Path(".dvc", "cache").resolve()
    if folder.resolve() != default and not folder.exists():
        raise ValueError(
            f"DVC's cache is to be at {folder}, and that is not there: mount it, or"
            " `dvc cache dir --local PATH` names another folder"
        )
    if not any(folder.glob("files/md5/*")):
        _print(
            f"DVC's cache at {folder} is empty: the first retraining makes everything from the"
            " start; `dvc pull` brings what a remote has"
        )


def build_environment(*, mlflow_port: int, prefect_port: int) -> dict[str, str]:
    """What the processes of the Procfile are told: addresses, folders, and to be closed."""
    prefect = f"http://{_HOST}:{prefect_port}"
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {
        **dvc.default_environment(),
        **store.ENVIRONMENT,
        **os.environ,
        # The Procfile calls mlflow and uvicorn by name, and MLflow's server calls uvicorn too.
        "PATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_PORT": str(mlflow_port),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that nothing here needs
        "MLFLOW_TRACKING_URI": f"http://{_HOST}:{mlflow_port}",
        "PREFECT_PORT": str(prefect_port),
        "PREFECT_API_URL": f"{prefect}/api",
        # Neither profiles nor database of another project.
        "PREFECT_HOME": str(project_root() / ".work" / "prefect"),
        # A page of another site, open in the same browser, can neither ask (flows.local_server)
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{prefect},http://localhost:{prefect_port}",
        # nor the token without which nothing is changed; Prefect's own page and client fetch one.
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",  # its older name
    }


def _announce(environment: dict[str, str], started_at: float) -> None:
    """Wait until each of them answers, and say where they are."""
    mlflow, api = environment["MLFLOW_TRACKING_URI"], environment["PREFECT_API_URL"]
    deadline = started_at + _STARTUP_TIMEOUT
    _wait_for_url(f"{mlflow}/health", deadline)
    deployment = f"{api}/deployments/name/retrain/weekly"
    while (found := _wait_for_url(deployment, deadline)) and not _is_polled(found, started_at):
        time.sleep(0.5)
    if not found:
        _print(
            f"not all of them answered within {_STARTUP_TIMEOUT} seconds: their lines above say why"
        )
        return
    prefect = api.removesuffix("/api")
    _print(
        "\n"
        f"  runs and models   {_runs_url(mlflow)}\n"
        f"  flows             {prefect}\n"
        f"  the retraining    {prefect}/v2/deployments/deployment/{found['id']}\n"
        "\n  ctrl-C ends all\n"
    )


def _runs_url(server: str) -> str:
    """The page of the runs, in the columns that the project comes with."""
    return store.page_url().replace(store.browser_url(), server)


def _is_polled(deployment: dict[str, Any], started_at: float) -> bool:
    polled = deployment.get("last_polled")
    return polled is not None and datetime.fromisoformat(polled).timestamp() >= started_at


def _wait_for_url(url: str, deadline: float) -> dict[str, Any]:
    """What a page says once it is there, {} for no JSON or when the time is over."""
    while time.time() < deadline:
        try:
            answer = requests.get(url, timeout=5)
            if answer.ok:
                is_json = "json" in answer.headers.get("content-type", "")
                return dict(answer.json()) if is_json else {}
        except requests.RequestException:
            pass
        time.sleep(0.5)
    return {}


def _print(text: str) -> None:
    print(text, flush=True)
