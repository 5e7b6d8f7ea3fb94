"""`make up` as a whole: the real servers of the Procfile, and what is left once they have ended."""

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
"""A variable that every process inherits from `make up`, whoever is its parent by then."""


class Up:
    """`python -m pipeline up` at work in a folder, on two free ports."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as one, socket.socket() as other:
            for probe in (one, other):
                probe.bind(("127.0.0.1", 0))
            ports = [str(probe.getsockname()[1]) for probe in (one, other)]
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
        """What it prints once all three answer, by what they are of."""
        wait_until(lambda: "ctrl-C ends all" in self.said() or self.process.poll(), timeout_s=120)
        lines = r"^  (runs and models|flows|the retraining) +(http\S+)$"
        return dict(re.findall(lines, self.said(), re.MULTILINE))

    def said(self) -> str:
        """All that it and its servers have printed."""
        return self._log.read_text(errors="replace")

    def at_work(self) -> dict[int, str]:
        """Every process that it has started, or that those have: the command by its number."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                variables = (place / "environ").read_bytes().split(b"\0")  # empty, once it is dead
                if f"{MARK}={self._mark}".encode() in variables:
                    found[int(place.name)] = (place / "cmdline").read_bytes().decode()
            except OSError:  # it ended just now
                continue
        return found

    def processes_of(self, command: str) -> list[int]:
        """The numbers of those whose command has this in it."""
        return [pid for pid, known in self.at_work().items() if command in known]


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    """`make up` for a project in miniature, with the Procfile and parameters that are shipped."""
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(variable, raising=False)
    toy = SampleProject(tmp_path / "toy", monkeypatch)
    toy.stages["train"]["params"] = ["train.steps"]
    toy.set_command("train", "cp raw ${item.loss}-${item.seed}")
    for name in ("Procfile", "params.yaml"):
        shutil.copy(ROOT / name, toy.folder)
    up = Up(toy.folder)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()
        for left in up.at_work():
            os.kill(left, signal.SIGKILL)


def test_three_addresses_answer_until_ctrl_c(up: Up) -> None:
    """Each address that is printed gives a page; ctrl-C ends every process, and is no failure."""
    addresses = up.addresses()
    assert {"runs and models", "flows", "the retraining"} == addresses.keys(), up.said()
    for address in addresses.values():
        page = requests.get(address, headers={"Accept": "text/html"}, timeout=20)
        assert "<!doctype html>" in page.text.lower()
    deployment = addresses["the retraining"].rpartition("/")[2]
    known = requests.get(f"{addresses['flows']}/api/deployments/{deployment}", timeout=20)
    assert "weekly" == known.json()["name"]
    assert len(up.at_work()) > 3
    up.process.send_signal(signal.SIGINT)
    assert 0 == up.process.wait(GRACE_SECONDS + 20)
    assert wait_until(lambda: not up.at_work(), timeout_s=5)


def test_one_that_is_killed_ends_the_others(up: Up) -> None:
    """Prefect's server killed, the others end as well, with all they started; it is named."""
    (prefect,) = wait_until(lambda: up.processes_of("local_server"), timeout_s=60)
    assert wait_until(lambda: up.processes_of("pipeline\0serve"), timeout_s=60)
    os.kill(prefect, signal.SIGKILL)
    assert 0 != up.process.wait(GRACE_SECONDS + 20)
    assert "prefect ended by itself (exit status -9)" in up.said()
    assert wait_until(lambda: not up.at_work(), timeout_s=5)
