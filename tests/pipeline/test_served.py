"""The served deployment against a real Prefect server, as a schedule or a person starts it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.own_prefect import OwnPrefect, until
from tests.pipeline.toy_project import ToyProject

pytestmark = pytest.mark.slow

# What a training is to the flow: it notes its process, and goes on where it was stopped.
TRAINING = (
    "echo $$ >> pids; test -e state || { touch state; exec sleep 60; }; cp raw ${item.loss}-0"
)
STUBBORN = f"trap '' TERM; {TRAINING}"  # what a stage inside one long call is


# Each test has its own project and server: some of them kill what the others would need.
@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyProject:
    """A project in Git nothing of which has run."""
    toy = ToyProject(tmp_path / "toy", monkeypatch)
    toy.stages["train"]["matrix"] = {"loss": ["ce"], "seed": [0]}
    toy.stages["ablation"] = {"cmd": "cp ce-0 ablation.md", "deps": ["ce-0"]}
    toy.stages["ablation"]["outs"] = [{"ablation.md": {"cache": False}}]
    toy.save()
    toy.into_git()
    return toy


@pytest.fixture
def prefect(toy: ToyProject) -> Iterator[OwnPrefect]:
    """A server, and the deployment of the project."""
    prefect = OwnPrefect(toy.folder.parent, toy.folder)
    try:
        yield prefect
    finally:
        prefect.end()


def is_at_work(pid: str) -> bool:
    """Whether there is such a process."""
    return Path("/proc", pid).exists()


def training(toy: ToyProject) -> str:
    """The process of the first training, once it is there."""
    pids = toy.folder / "pids"
    started = until(lambda: pids.exists() and pids.read_text().split(), within=60)
    assert started
    return str(started[0])


def test_cancelled_is_over_and_the_next_goes_on(prefect: OwnPrefect, toy: ToyProject) -> None:
    """Cancelled, even a stubborn training ends in 15 s; a second run is cancelled at once.

    The next run then goes on where the first was.
    """
    toy.change("train", STUBBORN)
    first = prefect.start()
    pid = training(toy)
    second = prefect.end_state(prefect.start())
    assert "Cancelled" == second[0]
    assert second[1].startswith("a retraining is at work here")
    prefect.ask(f"/flow_runs/{first}/set_state", state={"type": "CANCELLING"})
    assert until(lambda: not is_at_work(pid), within=15)
    assert "Cancelled" == prefect.end_state(first, within=15)[0]
    assert ("Completed", "ran: train@ce-0, ablation") == prefect.end_state(prefect.start())


def test_overrides_become_an_experiment(prefect: OwnPrefect, toy: ToyProject) -> None:
    """DVC knows the run's name as an experiment; the stages are seen one by one."""
    toy.change("train", "cp raw ${item.loss}-0")
    run = prefect.start(overrides=["lr=5"])
    # Everything: Git does not know this project's dvc.lock.
    assert ("Completed", "ran: download, train@ce-0, ablation") == prefect.end_state(run)
    assert "lr: 1\n" == (toy.folder / "params.yaml").read_text()
    listed = subprocess.run(["dvc", "exp", "list", "--name-only"], capture_output=True, text=True)
    assert prefect.ask(f"/flow_runs/{run}")["name"] in listed.stdout


def test_new_data_start_a_retraining(prefect: OwnPrefect) -> None:
    """The event that docs/retraining.md names starts a run."""
    known = len(prefect.ask("/flow_runs/filter", limit=200))
    command = ["prefect", "event", "emit", "segformer.data.changed", "--resource-id", "zips"]
    subprocess.run(command, env=prefect.environment, check=True, capture_output=True)
    runs = until(lambda: prefect.ask("/flow_runs/filter", limit=200)[known:], within=30)
    assert runs


def test_a_serve_that_dies_takes_its_training_along(prefect: OwnPrefect, toy: ToyProject) -> None:
    """Killed, it could not cancel it any more: the training ends, and the run has crashed."""
    toy.change("train", TRAINING)
    run = prefect.start()
    pid = training(toy)
    prefect.served.kill()
    prefect.served.wait()
    assert until(lambda: not is_at_work(pid), within=15)
    prefect.serve(toy.folder)
    assert "Crashed" == prefect.end_state(run)[0]


def test_a_machine_that_dies_blocks_nobody_for_long(prefect: OwnPrefect, toy: ToyProject) -> None:
    """All its processes gone at once, the server calls the run crashed within two minutes.

    By itself: the deployment is served again only then. The next run goes on with the training.
    """
    toy.change("train", TRAINING)
    run = prefect.start()
    training(toy)
    prefect.machine_dies()
    assert "RUNNING" == prefect.state(run)["type"]
    crashed = ("Crashed", "No sign of life for 90 seconds: its process or machine died.")
    assert crashed == prefect.end_state(run, within=120)
    prefect.serve(toy.folder)
    assert ("Completed", "ran: train@ce-0, ablation") == prefect.end_state(prefect.start())


def test_a_server_that_dies_ends_no_training(prefect: OwnPrefect, toy: ToyProject) -> None:
    """The training goes on to its end without the server, and so does what follows it."""
    toy.change("train", "echo $$ >> pids; sleep 15; cp raw ${item.loss}-0")
    prefect.start()
    pid = training(toy)
    prefect.server.kill()
    assert until(lambda: (toy.folder / "ablation.md").exists(), within=120)
    assert not is_at_work(pid)
