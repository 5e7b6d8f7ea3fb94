"""Trainings with a real MLflow server that is unreachable, dies, is full, and returns."""

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

FULL = 4096  # bytes per file at most: writes beyond that offset of the database fail


class MlflowServer:
    """The command of the README, on a free port, with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.address = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self, *, max_file_size: int = resource.RLIM_INFINITY) -> Iterator[None]:
        """Start the server, and kill it at the end.

        Args:
            max_file_size: bytes that a file of the server can have; writes beyond fail.
        """
        program = str(Path(sys.executable).with_name("mlflow"))
        options = ["--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        options += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        options += ["--artifacts-destination", str(self.folder / "artifacts")]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        settings = {"DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [program, "server", *options],
                env=os.environ | settings | {"PATH": path},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(process)
            limits = (max_file_size, resource.RLIM_INFINITY)
            for pid in _list_group(process.pid):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                urlopen(f"{self.address}/health", timeout=1).close()
                return
            except (URLError, OSError):
                assert process.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)


def _list_group(leader: int) -> list[int]:
    """The process ids of a group."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    members = []
    for pid in pids:
        try:
            if os.getpgid(pid) == leader:
                members.append(pid)
        except ProcessLookupError:
            continue
    return members


@contextmanager
def training(name: str) -> Iterator[Any]:
    """A training's run of two records, the first one reported; it must not take long."""
    start = time.monotonic()
    with tracking_client.start_training_run(name, params={"a": 1}, tags={}) as run:
        report(run, 1)
        yield run
        report(run, 2)
        run.log_artifacts(Path(__file__))
    assert time.monotonic() - start < 30


def report(run: Any, step: int) -> None:
    """Report one record."""
    run.report(StepRecord(step, 2, 1 / step, 6e-5, 10.0, None))


def fetch_runs(address: str) -> dict[str, object]:
    """Return the server's runs: by name the status, steps, files, and end time."""
    client = tracking_client.MlflowClient(address)
    runs: dict[str, object] = {}
    experiment = client.get_experiment_by_name("outages")
    for run in client.search_runs([experiment.experiment_id]) if experiment else []:
        points = client.get_metric_history(run.info.run_id, "train/loss")
        files = [artifact.path for artifact in client.list_artifacts(run.info.run_id)]
        steps = [point.step for point in points]
        assert run.info.run_name not in runs, "uploaded twice"
        runs[run.info.run_name] = run.info.status, steps, files, run.info.end_time
    return runs


def test_sync_uploads_everything_after_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is unreachable, killed or full delays no training; `sync` uploads all runs.

    A second `sync` changes nothing.
    """
    monkeypatch.chdir(tmp_path)
    server = MlflowServer(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "outages")
    start = time.monotonic()
    with training("unreachable"):
        pass
    assert time.monotonic() - start < 5

    with server.running():
        with training("healthy") as run:
            assert run.id
        interrupted = training("dies midway")
        run = interrupted.__enter__()
        time.sleep(3)  # so that the first record is uploaded
    start = time.monotonic()
    interrupted.__exit__(None, None, None)
    assert time.monotonic() - start < 6
    assert run.id

    with server.running(max_file_size=FULL), training("full"):
        pass

    with server.running():
        assert ("FINISHED", [1, 2]) == fetch_runs(server.address)["healthy"][:2]  # type: ignore[index]
        problems = dict(sync_journals())
        assert {"unreachable", "dies midway", "full"} == problems.keys()
        assert {None} == set(problems.values())
        after = fetch_runs(server.address)
        assert {"unreachable", "healthy", "dies midway", "full"} == after.keys()
        for status, steps, files, _ in after.values():  # type: ignore[misc]
            assert ("FINISHED", [1, 2], [Path(__file__).name]) == (status, steps, files)
        assert [] == list(sync_journals())
        assert after == fetch_runs(server.address)
