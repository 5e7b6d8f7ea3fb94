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
    """Start the services of the Procfile, print their addresses, and wait until they end.

    Args:
        mlflow_port: port of MLflow's server on the loopback address.
        prefect_port: port of Prefect's server on the loopback address.

    Raises:
        ValueError: if a service cannot start, or ends by itself.
    """
    with lock_services(project_root() / _LOCK_FILE):
        check_startup({"MLFLOW_PORT": mlflow_port, "PREFECT_PORT": prefect_port})
        environment = build_environment(mlflow_port=mlflow_port, prefect_port=prefect_port)
        Path(environment["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
        # MLflow's server creates its database in steps; if it is interrupted, it is unusable.
        process = subprocess.run(
            [sys.executable, "-m", "pipeline.tracking.create_database"], check=False
        )
        if process.returncode:
            raise ValueError(
                f"{store.database_path()} cannot be created or read; see the messages above"
            )
        procfile.run_procfile(PROCFILE, environment, partial(_announce, environment, time.time()))


def lock_services(lock_file: Path) -> AbstractContextManager[None]:
    """Lock the folder for one `make up`: two would share the databases, even with different ports.

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
    """Check that the services can start.

    Args:
        ports: the ports, by the environment variable that sets them.

    Raises:
        ValueError: if a server is already configured, a port is in use, or DVC's project, its
            cache or the parameters cannot be read.
    """
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        if address := os.environ.get(name):
            raise ValueError(
                f"{name} is set to {store.redact_secrets(address)}, but `make up` starts servers of"
                " its own: unset it, or use your server with `segformer serve`"
            )
    if len(set(ports.values())) < len(ports):
        raise ValueError(
            f"{' and '.join(ports)} are both {next(iter(ports.values()))}: choose different ports"
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
        except OSError as error:
            raise ValueError(
                f"port {port} of {_HOST} is not available ({error.strerror}): find its process with"
                f" `lsof -i :{port}`, perhaps an earlier `make up`, and end it, or choose another"
                f" port: {name}={port + 1} make up"
            ) from None


def _check_cache(folder: Path) -> None:
    default = Path(".dvc", "cache").resolve()
    if folder.resolve() != default and not folder.exists():
        raise ValueError(
            f"DVC's cache folder {folder} does not exist: mount it, or set another folder with"
            " `dvc cache dir --local PATH`"
        )
    if not any(folder.glob("files/md5/*")):
        _print(
            f"DVC's cache {folder} is empty: the first retraining runs all stages; `dvc pull`"
            " downloads the results of a remote"
        )


def build_environment(*, mlflow_port: int, prefect_port: int) -> dict[str, str]:
    """Return the environment of the services: addresses, folders, no telemetry, access control."""
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
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes, not needed here
        "MLFLOW_TRACKING_URI": f"http://{_HOST}:{mlflow_port}",
        "PREFECT_PORT": str(prefect_port),
        "PREFECT_API_URL": f"{prefect}/api",
        # Separate from profiles and databases of other projects.
        "PREFECT_HOME": str(project_root() / ".work" / "prefect"),
        # A page of another site in the same browser can neither send requests (flows.local_server)
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{prefect},http://localhost:{prefect_port}",
        # nor get the token that changes require; Prefect's own pages and client request one.
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",  # its older name
    }


def _announce(environment: dict[str, str], started_at: float) -> None:
    """Wait until all services respond, and print their addresses."""
    mlflow, api = environment["MLFLOW_TRACKING_URI"], environment["PREFECT_API_URL"]
    deadline = started_at + _STARTUP_TIMEOUT
    _wait_for_url(f"{mlflow}/health", deadline)
    deployment = f"{api}/deployments/name/retrain/weekly"
    while (served := _wait_for_url(deployment, deadline)) and not _is_polled(served, started_at):
        time.sleep(0.5)
    if not served:
        _print(f"some services did not respond within {_STARTUP_TIMEOUT} s; see their output above")
        return
    prefect = api.removesuffix("/api")
    _print(
        "\n"
        f"  runs and models   {_runs_url(mlflow)}\n"
        f"  flows             {prefect}\n"
        f"  retraining        {prefect}/v2/deployments/deployment/{served['id']}\n"
        "\n  ctrl-C stops all services\n"
    )


def _runs_url(server: str) -> str:
    """Return the URL of the table of runs, with the project's columns."""
    return store.page_url().replace(store.browser_url(), server)


def _is_polled(deployment: dict[str, Any], started_at: float) -> bool:
    polled = deployment.get("last_polled")
    return polled is not None and datetime.fromisoformat(polled).timestamp() >= started_at


def _wait_for_url(url: str, deadline: float) -> dict[str, Any]:
    """Wait until a URL responds and return its JSON; {} for other content or after the deadline."""
    while time.time() < deadline:
        try:
            response = requests.get(url, timeout=5)
            if response.ok:
                is_json = "json" in response.headers.get("content-type", "")
                return dict(response.json()) if is_json else {}
        except requests.RequestException:
            pass
        time.sleep(0.5)
    return {}


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201  the services print to the same stream
