"""A real Prefect server and the served deployment, on a small DVC project."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from pipeline.flows import services

ROOT = Path(__file__).parents[2]
UVICORN = Path(sys.executable).with_name("uvicorn")
_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], timeout_s: float) -> _T:
    """Return the first true value of `condition`, or its last value after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return value


def _make_session() -> requests.Session:
    """Return a session that retries status 503, as Prefect's own client does.

    The server responds with it, having changed nothing, while its SQLite file is locked.
    """
    retry = Retry(total=6, status_forcelist=[503], allowed_methods=None, backoff_factor=0.5)
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session


class PrefectServer:
    """A Prefect server on a free loopback port, with a process that serves the deployment.

    Args:
        home: folder of the server's database.
        project: folder of the project to serve.
        mlflow: address of an MLflow server; None for none.
    """

    def __init__(self, home: Path, project: Path, mlflow: str | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.api_url = f"{self.url}/api"
        self.environment = {
            **services.build_environment(mlflow_port=1, prefect_port=port),
            "PREFECT_HOME": str(home),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "OMP_NUM_THREADS": "1",
        }
        self.environment.pop("MLFLOW_TRACKING_URI", None)
        if mlflow:
            self.environment["MLFLOW_TRACKING_URI"] = mlflow
        command = [str(UVICORN), "--factory", "pipeline.flows.local_server:application"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
        self._session = _make_session()
        self.log = home / "log"
        self.server_process = self._spawn(command, project)
        wait_until(lambda: self._responds("/health"), timeout_s=120)
        self.serve(project)
        wait_until(lambda: self._responds("/deployments/name/retrain/weekly"), timeout_s=60)
        self.deployment = self.request("/deployments/name/retrain/weekly")["id"]

    def serve(self, project: Path) -> None:
        """Serve the deployment in a new process."""
        self.serve_process = self._spawn([sys.executable, "-m", "pipeline", "serve"], project)

    def kill_serve_process(self) -> None:
        """Kill the serving process and all its children, as a machine failure would."""
        parent = psutil.Process(self.serve_process.pid)
        processes = [parent, *parent.children(recursive=True)]
        for process in processes:
            process.suspend()  # so that no process can react to the end of another
        for process in processes:
            process.kill()
        self.serve_process.wait()

    def _spawn(self, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _responds(self, path: str) -> bool:
        try:
            return requests.get(self.api_url + path, timeout=5).ok
        except requests.RequestException:
            return False

    def request(self, path: str, **body: Any) -> Any:
        """Send a POST request with a CSRF token if there is a body, else a GET request."""
        if body and "Prefect-Csrf-Client" not in self._session.headers:
            client = "0b3a1f34-7d0c-4d3e-9f43-0f4b6cf2f1a5"
            token = self.request(f"/csrf-token?client={client}")["token"]
            self._session.headers["Prefect-Csrf-Client"] = client
            self._session.headers["Prefect-Csrf-Token"] = token
        method = self._session.post if body else self._session.get
        response = method(self.api_url + path, timeout=20, **({"json": body} if body else {}))
        response.raise_for_status()
        return response.json()

    def start_run(self, **parameters: Any) -> str:
        """Start a run of the deployment, without the gate, and return its id."""
        parameters = {"promote": False, **parameters}
        path = f"/deployments/{self.deployment}/create_flow_run"
        return str(self.request(path, parameters=parameters, state={"type": "SCHEDULED"})["id"])

    def find_runs(self, name: str) -> list[str]:
        """Wait until there are runs of this name, and return their ids."""
        query = {"name": {"any_": [name]}}
        runs = wait_until(lambda: self.request("/flow_runs/filter", flow_runs=query), timeout_s=30)
        return [run["id"] for run in runs]

    def run_state(self, run: str) -> dict[str, Any]:
        """Return the current state of a run."""
        return dict(self.request(f"/flow_runs/{run}")["state"])

    def final_state(self, run: str, timeout_s: float = 90) -> tuple[str, str]:
        """Wait for the final state of a run, and return its name and message."""
        final_types = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
        wait_until(lambda: self.run_state(run)["type"] in final_types, timeout_s)
        state = self.run_state(run)
        return state["name"], state["message"] or ""

    def stop(self) -> None:
        """Stop the server and the serving process."""
        for process in (self.serve_process, self.server_process):
            process.terminate()
        for process in (self.serve_process, self.server_process):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # without a server it ends slowly
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
