"""Trainings beside a real MLflow server that is not there, dies, is full, and comes back."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from pipeline.tracking import client as tracking_client
from pipeline.tracking.sync import sync_journals
from segformer.training.state import StepRecord

pytestmark = pytest.mark.slow

FULL = 4096  # bytes that a file may have: any write further back in the database fails


class Server:
    """The command that the README names, on a free port, with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.address = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self, *, largest: int = resource.RLIM_INFINITY) -> Iterator[None]:
        """Start it and kill it; no file that it writes may be larger than `largest` bytes."""
        program = str(Path(sys.executable).with_name("mlflow"))
        options = ["--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        places = ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        places += ["--artifacts-destination", str(self.folder / "artifacts")]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        quiet = {"DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [program, "server", *options, *places],
                env=os.environ | quiet | {"PATH": path},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait(process)
            for one in _group(process.pid):
                resource.prlimit(one, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                urlopen(f"{self.address}/health", timeout=1).close()
                return
            except (URLError, OSError):
                assert process.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)


def _group(leader: int) -> list[int]:
    """The processes of a group."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = []
    for number in numbers:
        try:
            if os.getpgid(number) == leader:
                found.append(number)
        except ProcessLookupError:
            continue
    return found


@contextmanager
def training(name: str) -> Iterator[Any]:
    """A training's run with its first record told; it must not be held up for long."""
    start = time.monotonic()
    with tracking_client.start_training_run(name, params={"a": 1}, tags={}) as run:
        report(run, 1)
        yield run
        report(run, 2)
        run.log_artifacts(Path(__file__))
    assert time.monotonic() - start < 30


def report(run: Any, step: int) -> None:
    """Tell one record."""
    run.report(StepRecord(step, 2, 1 / step, 6e-5, 10.0, None))


def held(address: str) -> dict[str, object]:
    """What the server has: by name of the run its status, steps, files, and the time it ended."""
    client = tracking_client.MlflowClient(address)
    found: dict[str, object] = {}
    experiment = client.get_experiment_by_name("outages")
    for run in client.search_runs([experiment.experiment_id]) if experiment else []:
        points = client.get_metric_history(run.info.run_id, "train/loss")
        files = [each.path for each in client.list_artifacts(run.info.run_id)]
        steps = [point.step for point in points]
        assert run.info.run_name not in found, "doubled"
        found[run.info.run_name] = run.info.status, steps, files, run.info.end_time
    return found


def test_a_server_that_comes_back_is_told_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not there, killed midway, its disk full: no training fails or waits, and `sync` sends all.

    A second `sync` changes nothing.
    """
    monkeypatch.chdir(tmp_path)
    server = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "outages")
    start = time.monotonic()
    with training("absent"):
        pass
    assert time.monotonic() - start < 5

    with server.running():
        with training("healthy") as run:
            assert run.id
        entered = training("dies midway")
        run = entered.__enter__()
        time.sleep(3)  # so that it sends its first record
    start = time.monotonic()
    entered.__exit__(None, None, None)
    assert time.monotonic() - start < 6
    assert run.id

    with server.running(largest=FULL), training("full"):
        pass

    with server.running():
        assert ("FINISHED", [1, 2]) == held(server.address)["healthy"][:2]  # type: ignore[index]
        sent = dict(sync_journals())
        assert {"absent", "dies midway", "full"} == sent.keys()
        assert {None} == set(sent.values())
        after = held(server.address)
        assert {"absent", "healthy", "dies midway", "full"} == after.keys()
        for status, steps, files, _ in after.values():  # type: ignore[misc]
            assert ("FINISHED", [1, 2], [Path(__file__).name]) == (status, steps, files)
        assert [] == list(sync_journals())
        assert after == held(server.address)
