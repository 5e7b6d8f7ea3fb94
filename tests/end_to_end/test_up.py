"""`make up` with the real servers of the Procfile, and its processes after the end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from pipeline.process_group import GRACE_SECONDS
from tests.fakes.prefect_server import wait_until
from tests.fakes.sample_project import SampleProject

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MARK = "STARTED_BY_THIS_TEST"
"""An environment variable that all processes inherit from `make up`, also without their parent."""


class RunningServices:
    """`segformer up`, running in a folder on two free ports."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as first, socket.socket() as second:
            for probe in (first, second):
                probe.bind(("127.0.0.1", 0))
            ports = [str(probe.getsockname()[1]) for probe in (first, second)]
        self._log = folder.parent / "up.log"
        self._mark = str(uuid4())
        command = [sys.executable, "-m", "pipeline", "up"]
        path = os.pathsep.join([str(ROOT), *sys.path])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--mlflow-port", ports[0], "--prefect-port", ports[1]],
                cwd=folder,
                env=os.environ | {MARK: self._mark, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    def addresses(self) -> dict[str, str]:
        """Wait until all services respond, and return the printed addresses by label."""
        wait_until(
            lambda: "ctrl-C stops all services" in self.output() or self.process.poll(),
            timeout_s=120,
        )
        pattern = r"^  (runs and models|flows|retraining) +(http\S+)$"
        return dict(re.findall(pattern, self.output(), re.MULTILINE))

    def output(self) -> str:
        """Return the output of the command and its servers."""
        return self._log.read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """Return the command line of every running descendant by process id."""
        commands = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                # Empty for a zombie.
                variables = (folder / "environ").read_bytes().split(b"\0")
                if f"{MARK}={self._mark}".encode() in variables:
                    commands[int(folder.name)] = (folder / "cmdline").read_bytes().decode()
            except OSError:  # it ended just now
                continue
        return commands

    def find_processes(self, text: str) -> list[int]:
        """Return the ids of processes whose command line contains a text."""
        return [pid for pid, command in self.processes().items() if text in command]


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServices]:
    """`make up` for a small project, with the Procfile and parameters of this one."""
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(variable, raising=False)
    project = SampleProject(tmp_path / "project", monkeypatch)
    project.stages["train"]["params"] = ["train.steps"]
    project.set_command("train", "cp raw ${item.loss}-${item.seed}")
    for name in ("Procfile", "params.yaml"):
        shutil.copy(ROOT / name, project.folder)
    services = RunningServices(project.folder)
    try:
        yield services
    finally:
        services.process.kill()
        services.process.wait()
        for pid in services.processes():
            os.kill(pid, signal.SIGKILL)


def test_three_addresses_respond_until_ctrl_c(services: RunningServices) -> None:
    """Each printed address is a page; ctrl-C ends all processes with exit status 0."""
    addresses = services.addresses()
    assert {"runs and models", "flows", "retraining"} == addresses.keys(), services.output()
    for address in addresses.values():
        page = requests.get(address, headers={"Accept": "text/html"}, timeout=20)
        assert "<!doctype html>" in page.text.lower()
    deployment = addresses["retraining"].rpartition("/")[2]
    response = requests.get(f"{addresses['flows']}/api/deployments/{deployment}", timeout=20)
    assert "weekly" == response.json()["name"]
    assert len(services.processes()) > 3
    services.process.send_signal(signal.SIGINT)
    assert 0 == services.process.wait(GRACE_SECONDS + 20)
    assert wait_until(lambda: not services.processes(), timeout_s=5)


def test_killed_server_ends_the_others(services: RunningServices) -> None:
    """If Prefect's server is killed, all other processes end, and the error names it."""
    (prefect,) = wait_until(lambda: services.find_processes("local_server"), timeout_s=60)
    assert wait_until(lambda: services.find_processes("pipeline\0serve"), timeout_s=60)
    os.kill(prefect, signal.SIGKILL)
    assert 0 != services.process.wait(GRACE_SECONDS + 20)
    assert "prefect exited with status -9" in services.output()
    assert wait_until(lambda: not services.processes(), timeout_s=5)
