"""The served deployment against a real Prefect server, as a schedule or a person starts it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.prefect_server import PrefectServer, wait_until
from tests.fakes.sample_project import SampleProject

pytestmark = pytest.mark.slow

# What a training is to the flow: it notes its process, and goes on where it was stopped.
TRAINING = (
    "echo $$ >> pids; test -e state || { touch state; exec sleep 60; }; cp raw ${item.loss}-0"
)
STUBBORN = f"trap '' TERM; {TRAINING}"  # what a stage inside one long call is


# Each test has its own project and server: some of them kill what the others would need.
@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleProject:
    """A project in Git nothing of which has run."""
    toy = SampleProject(tmp_path / "toy", monkeypatch)
    toy.stages["train"]["matrix"] = {"loss": ["ce"], "seed": [0]}
    toy.stages["ablation"] = {"cmd": "cp ce-0 ablation.md", "deps": ["ce-0"]}
    toy.stages["ablation"]["outs"] = [{"ablation.md": {"cache": False}}]
    toy.save()
    toy.init_git()
    return toy


@pytest.fixture
def prefect(toy: SampleProject) -> Iterator[PrefectServer]:
    """A server, and the deployment of the project."""
    prefect = PrefectServer(toy.folder.parent, toy.folder)
    try:
        yield prefect
    finally:
        prefect.stop()


def is_at_work(pid: str) -> bool:
    """Whether there is such a process."""
    return Path("/proc", pid).exists()


def training(toy: SampleProject) -> str:
    """The process of the first training, once it is there."""
    pids = toy.folder / "pids"
    started = wait_until(lambda: pids.exists() and pids.read_text().split(), timeout_s=60)
    assert started
    return str(started[0])


def test_cancelled_is_over_and_the_next_goes_on(prefect: PrefectServer, toy: SampleProject) -> None:
    """Cancelled, even a stubborn training ends in 15 s; a second run is cancelled at once.

    The next run then goes on where the first was.
    """
    toy.set_command("train", STUBBORN)
    first = prefect.start_run()
    pid = training(toy)
    second = prefect.final_state(prefect.start_run())
    assert "Cancelled" == second[0]
    assert second[1].startswith("a retraining is already running in this folder")
    prefect.request(f"/flow_runs/{first}/set_state", state={"type": "CANCELLING"})
    assert wait_until(lambda: not is_at_work(pid), timeout_s=15)
    assert "Cancelled" == prefect.final_state(first, timeout_s=15)[0]
    assert ("Completed", "ran: train@ce-0, ablation") == prefect.final_state(prefect.start_run())


def test_overrides_become_an_experiment(prefect: PrefectServer, toy: SampleProject) -> None:
    """DVC knows the run's name as an experiment; the stages are seen one by one."""
    toy.set_command("train", "cp raw ${item.loss}-0")
    run = prefect.start_run(overrides=["lr=5"])
    # Everything: Git does not know this project's dvc.lock.
    assert ("Completed", "ran: download, train@ce-0, ablation") == prefect.final_state(run)
    assert "lr: 1\n" == (toy.folder / "params.yaml").read_text()
    listed = subprocess.run(["dvc", "exp", "list", "--name-only"], capture_output=True, text=True)
    assert prefect.request(f"/flow_runs/{run}")["name"] in listed.stdout


def test_new_data_start_a_retraining(prefect: PrefectServer) -> None:
    """The event that docs/retraining.md names starts a run."""
    known = len(prefect.request("/flow_runs/filter", limit=200))
    command = ["prefect", "event", "emit", "segformer.data.changed", "--resource-id", "zips"]
    subprocess.run(command, env=prefect.environment, check=True, capture_output=True)
    runs = wait_until(lambda: prefect.request("/flow_runs/filter", limit=200)[known:], timeout_s=30)
    assert runs


def test_a_serve_that_dies_takes_its_training_along(
    prefect: PrefectServer, toy: SampleProject
) -> None:
    """Killed, it could not cancel it any more: the training ends, and the run has crashed."""
    toy.set_command("train", TRAINING)
    run = prefect.start_run()
    pid = training(toy)
    prefect.serve_process.kill()
    prefect.serve_process.wait()
    assert wait_until(lambda: not is_at_work(pid), timeout_s=15)
    prefect.serve(toy.folder)
    assert "Crashed" == prefect.final_state(run)[0]


def test_a_machine_that_dies_blocks_nobody_for_long(
    prefect: PrefectServer, toy: SampleProject
) -> None:
    """All its processes gone at once, the server calls the run crashed within two minutes.

    By itself: the deployment is served again only then. The next run goes on with the training.
    """
    toy.set_command("train", TRAINING)
    run = prefect.start_run()
    training(toy)
    prefect.kill_serve_process()
    assert "RUNNING" == prefect.run_state(run)["type"]
    crashed = ("Crashed", "No sign of life for 90 seconds: its process or machine died.")
    assert crashed == prefect.final_state(run, timeout_s=120)
    prefect.serve(toy.folder)
    assert ("Completed", "ran: train@ce-0, ablation") == prefect.final_state(prefect.start_run())


def test_a_server_that_dies_ends_no_training(prefect: PrefectServer, toy: SampleProject) -> None:
    """The training goes on to its end without the server, and so does what follows it."""
    toy.set_command("train", "echo $$ >> pids; sleep 15; cp raw ${item.loss}-0")
    prefect.start_run()
    pid = training(toy)
    prefect.server_process.kill()
    assert wait_until(lambda: (toy.folder / "ablation.md").exists(), timeout_s=120)
    assert not is_at_work(pid)
