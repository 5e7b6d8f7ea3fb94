"""The served deployment with a real Prefect server, started by a schedule or by hand."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.prefect_server import PrefectServer, wait_until
from tests.fakes.sample_project import SampleProject

pytestmark = pytest.mark.slow

# A fake training: it records its process id, and completes when it is resumed.
TRAINING = (
    "echo $$ >> pids; test -e state || { touch state; exec sleep 60; }; cp raw ${item.loss}-0"
)
SIGTERM_IGNORING_TRAINING = f"trap '' TERM; {TRAINING}"  # as inside one long call


# Each test has its own project and server, because some tests kill them.
@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleProject:
    """A project in Git in which no stage has run."""
    project = SampleProject(tmp_path / "project", monkeypatch)
    project.stages["train"]["matrix"] = {"loss": ["ce"], "seed": [0]}
    project.stages["ablation"] = {"cmd": "cp ce-0 ablation.md", "deps": ["ce-0"]}
    project.stages["ablation"]["outs"] = [{"ablation.md": {"cache": False}}]
    project.save()
    project.init_git()
    return project


@pytest.fixture
def prefect(project: SampleProject) -> Iterator[PrefectServer]:
    """A server with the project's deployment."""
    prefect = PrefectServer(project.folder.parent, project.folder)
    try:
        yield prefect
    finally:
        prefect.stop()


def is_running(pid: str) -> bool:
    """Return whether a process with this id exists."""
    return Path("/proc", pid).exists()


def wait_for_training(project: SampleProject) -> str:
    """Wait for the first training, and return its process id."""
    pids = project.folder / "pids"
    started = wait_until(lambda: pids.exists() and pids.read_text().split(), timeout_s=60)
    assert started
    return str(started[0])


def test_cancelled_run_ends_and_the_next_resumes(
    prefect: PrefectServer, project: SampleProject
) -> None:
    """A cancelled run ends within 15 s, even if the training ignores SIGTERM.

    A concurrent second run is cancelled at once; the run after it resumes the training.
    """
    project.set_command("train", SIGTERM_IGNORING_TRAINING)
    first = prefect.start_run()
    pid = wait_for_training(project)
    second = prefect.final_state(prefect.start_run())
    assert "Cancelled" == second[0]
    assert second[1].startswith("a retraining is already running in this folder")
    prefect.request(f"/flow_runs/{first}/set_state", state={"type": "CANCELLING"})
    assert wait_until(lambda: not is_running(pid), timeout_s=15)
    assert "Cancelled" == prefect.final_state(first, timeout_s=15)[0]
    assert ("Completed", "ran: train@ce-0, ablation") == prefect.final_state(prefect.start_run())


def test_overrides_become_an_experiment(prefect: PrefectServer, project: SampleProject) -> None:
    """Overrides run as a DVC experiment with the name of the flow run."""
    project.set_command("train", "cp raw ${item.loss}-0")
    run = prefect.start_run(overrides=["lr=5"])
    # All stages, because this project's dvc.lock is not in Git.
    assert ("Completed", "ran: download, train@ce-0, ablation") == prefect.final_state(run)
    assert "lr: 1\n" == (project.folder / "params.yaml").read_text()
    listed = subprocess.run(["dvc", "exp", "list", "--name-only"], capture_output=True, text=True)
    assert prefect.request(f"/flow_runs/{run}")["name"] in listed.stdout


def test_event_starts_a_retraining(prefect: PrefectServer) -> None:
    """The event in docs/retraining.md starts a run."""
    num_runs = len(prefect.request("/flow_runs/filter", limit=200))
    command = ["prefect", "event", "emit", "segformer.data.changed", "--resource-id", "zips"]
    subprocess.run(command, env=prefect.environment, check=True, capture_output=True)
    runs = wait_until(
        lambda: prefect.request("/flow_runs/filter", limit=200)[num_runs:], timeout_s=30
    )
    assert runs


def test_training_ends_with_a_killed_serve_process(
    prefect: PrefectServer, project: SampleProject
) -> None:
    """If `serve` is killed, the training ends, as nothing could cancel it; the run is Crashed."""
    project.set_command("train", TRAINING)
    run = prefect.start_run()
    pid = wait_for_training(project)
    prefect.serve_process.kill()
    prefect.serve_process.wait()
    assert wait_until(lambda: not is_running(pid), timeout_s=15)
    prefect.serve(project.folder)
    assert "Crashed" == prefect.final_state(run)[0]


def test_run_of_a_dead_machine_is_marked_as_crashed(
    prefect: PrefectServer, project: SampleProject
) -> None:
    """If all processes die at once, the automation marks the run as crashed within two minutes.

    The deployment is served again only afterwards; the next run resumes the training.
    """
    project.set_command("train", TRAINING)
    run = prefect.start_run()
    wait_for_training(project)
    prefect.kill_serve_process()
    assert "RUNNING" == prefect.run_state(run)["type"]
    crashed = ("Crashed", "No heartbeat for 90 seconds: the process or the machine died.")
    assert crashed == prefect.final_state(run, timeout_s=120)
    prefect.serve(project.folder)
    assert ("Completed", "ran: train@ce-0, ablation") == prefect.final_state(prefect.start_run())


def test_training_survives_a_killed_server(prefect: PrefectServer, project: SampleProject) -> None:
    """The training and its downstream stages complete without the server."""
    project.set_command("train", "echo $$ >> pids; sleep 15; cp raw ${item.loss}-0")
    prefect.start_run()
    pid = wait_for_training(project)
    prefect.server_process.kill()
    assert wait_until(lambda: (project.folder / "ablation.md").exists(), timeout_s=120)
    assert not is_running(pid)
