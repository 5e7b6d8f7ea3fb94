"""pipeline.flows.retrain against a real Prefect server, on a DVC project in miniature."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.events.schemas.automations import EventTrigger
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Failed, Running
from prefect.testing.utilities import prefect_test_harness

from pipeline import dvc, locks
from pipeline.flows import deployment as deployment_module
from pipeline.flows import retrain as retrain_module
from pipeline.flows import tasks
from pipeline.stages import download
from tests.fakes.sample_project import SampleProject

TRAIN = ["train@ce-0", "train@dice-0"]
ALL = ["download", *TRAIN, "ablation"]
FRESH = ("Cached", "up to date")
RAN = ("Completed", "ran")


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """A Prefect server with an empty database."""
    with prefect_test_harness(server_startup_timeout=60):
        yield


@pytest.fixture
def toy(server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleProject:
    """A project nothing of which has run."""
    return SampleProject(tmp_path / "toy", monkeypatch)


def retrain(stages: list[str] | None = None, *, force: bool = False) -> State:
    """Run the flow and return its final state."""
    state: State = retrain_module.retrain(stages=stages or [], force=force, return_state=True)
    return state


def task_runs(state: State) -> dict[str, tuple[str | None, str]]:
    """The state and message of each task run of a flow run, in the order in which they started.

    Task runs reach the database a moment after they happened, so wait until all have settled.
    """
    flow_run_id = state.state_details.flow_run_id
    assert isinstance(flow_run_id, UUID)
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=mine)
        states = [run.state for run in runs if run.state]
        if len(runs) == len(states) and all(s.is_final() or s.name == "NotReady" for s in states):
            runs.sort(key=lambda run: run.created or 0)
            return {
                run.name: (run.state.name, run.state.message or "") for run in runs if run.state
            }
        time.sleep(0.2)
    raise AssertionError(f"task runs did not settle: {states}")


def report() -> str:
    """The latest report artifact."""
    body = {"artifacts": {"key": {"any_": ["retrain-report"]}}, "sort": "CREATED_DESC", "limit": 1}
    with get_client(sync_client=True) as client:
        (latest,) = client.request("POST", "/artifacts/filter", json=body).json()
    return str(latest["data"])


def test_every_stage_is_a_task_run(toy: SampleProject) -> None:
    """The first time all stages run, in order, each as a task run named like it."""
    state = retrain()
    assert f"ran: {', '.join(ALL)}" == state.message
    assert dict.fromkeys(ALL, RAN) == task_runs(state)


def test_what_does_not_run_says_why(toy: SampleProject) -> None:
    """A stage that is up to date and one that DVC has in its cache are Cached, and told apart."""
    for rate in (1, 2):
        toy.set_learning_rate(rate)
        toy.repro()
    toy.set_learning_rate(1)
    state = retrain()
    assert ("Cached", "everything is up to date") == (state.name, state.message)
    restored = ("Cached", "restored from DVC's cache of earlier runs")
    expected = {"download": FRESH, TRAIN[0]: restored, TRAIN[1]: restored, "ablation": FRESH}
    assert expected == task_runs(state)


def test_nothing_stale_is_said(toy: SampleProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are up to date, DVC is asked for none by itself, and the report says so."""
    toy.repro()
    monkeypatch.setattr(dvc, "run_stage", lambda *_, **__: pytest.fail("DVC is asked again"))
    state = retrain()
    assert ("Cached", "everything is up to date") == (state.name, state.message)
    assert dict.fromkeys(ALL, FRESH) == task_runs(state)
    text = report()
    assert text.startswith("**Everything is up to date.**")
    for stage in ALL:
        assert f"| {stage} | up to date |" in text


def test_followers_of_a_failed_stage_do_not_run(toy: SampleProject) -> None:
    """The failed stage's task holds its last lines, its followers are not ready, others run."""
    toy.set_command(
        "train", "test ${item.loss} = dice && cp raw dice-0 || (echo no memory; exit 9)"
    )
    state = retrain()
    why = "train@ce-0 failed: no memory; not run: ablation"
    assert ("Failed", why) == (state.name, state.message)
    runs = task_runs(state)
    assert ("Failed", "train@ce-0: exit status 9; last lines:\nno memory") == runs["train@ce-0"]
    assert RAN == runs["train@dice-0"]
    assert "NotReady" == runs["ablation"][0]
    assert not Path("ablation.md").exists()
    assert "| ablation | not run |" in report()


def test_a_busy_workspace_is_no_failure_of_the_stage(toy: SampleProject) -> None:
    """When another DVC process is at work, the task run's state is Busy and says who it is."""
    lock = {"write": {str(Path("raw").resolve()): {"pid": 1, "cmd": "/bin/dvc repro download"}}}
    Path(".dvc/tmp").mkdir()
    Path(".dvc/tmp/rwlock").write_text(json.dumps(lock))
    name, message = task_runs(retrain(["download"]))["download"]
    assert "Busy" == name
    assert "process 1 (dvc repro download) holds raw" in message


def test_a_selection_runs_what_it_needs_and_forces_what_it_names(toy: SampleProject) -> None:
    """`stages` brings the upstream stages along; `force` reruns the named ones only."""
    toy.repro()
    expected = {"download": FRESH, "train@dice-0": RAN}
    assert expected == task_runs(retrain(["train@dice-0"], force=True))


def test_two_retrainings_never_mix(toy: SampleProject) -> None:
    """Where a retraining is at work in the folder, a second one is cancelled and says why."""
    with locks.lock_workspace("flow run calm-otter", toy.folder):
        state = retrain()
    assert "Cancelled" == state.name
    assert "a retraining is already running in this folder (flow run calm-otter" in (state.message or "")


def test_overrides_and_force_are_refused_together(toy: SampleProject) -> None:
    """DVC would force all that comes before, too; the message says what to leave out."""
    with pytest.raises(ValueError, match="overrides and force do not go together"):
        retrain_module.run_flow(overrides=["lr=2"], force=True)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("gave up after 9 tries: the site does not answer", True), ("wrong password", False)],
)
def test_only_a_site_that_is_away_is_tried_again(said: str, expected: bool) -> None:
    """Another try helps where the stage ran out of patience, and nowhere else."""
    retries = tasks.run_download_stage.retry_condition_fn
    assert retries is not None
    assert expected == retries(tasks.run_download_stage, None, Failed(message=said))
    assert 0 == tasks.run_dvc_stage.retries


def test_the_guard_waits_for_every_end_of_a_run() -> None:
    """A run that ended in any of the states that the flow gives is not called dead."""
    ends = {"Completed", "Cached", "Failed", "Cancelled", "Crashed"}
    expected = {f"prefect.flow-run.{end}" for end in ends}
    trigger = deployment_module._heartbeat_automation().trigger
    assert isinstance(trigger, EventTrigger)
    assert expected <= trigger.expect


def test_only_ones_own_dead_are_buried(toy: SampleProject) -> None:
    """A run of another project's deployment, which is called weekly as well, stays as it is."""
    runs = {}
    with get_client(sync_client=True) as client:
        for name in ("retrain", "billing"):
            flow = client.request("POST", "/flows/", json={"name": name}).json()
            body = {"name": deployment_module.DEPLOYMENT_NAME, "flow_id": flow["id"]}
            deployment = client.request("POST", "/deployments/", json=body).json()["id"]
            runs[name] = client.create_flow_run_from_deployment(UUID(deployment)).id
            client.set_flow_run_state(runs[name], Running(), force=True)
        deployment_module._mark_dead_runs_crashed()
        states = {name: client.read_flow_run(run).state_name for name, run in runs.items()}
    assert {"retrain": "Crashed", "billing": "Running"} == states


def test_what_is_not_understood_is_refused_at_once(
    toy: SampleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line names every mistake, with the right names, before it starts a server."""
    monkeypatch.setattr(
        retrain_module, "_use_server", lambda: pytest.fail("a server was asked for")
    )
    with pytest.raises(ValueError) as told:
        retrain_module.run_flow(["trian", "ablatoin"], overrides=["lrr=2"])
    expected = (
        "overrides: lrr is not a parameter, did you mean lr?\n"
        "trian is not a stage of dvc.yaml, did you mean train?\n"
        "ablatoin is not a stage of dvc.yaml, did you mean ablation?"
    )
    assert expected == str(told.value)


def test_a_failure_reaches_the_command_line(toy: SampleProject) -> None:
    """`run` raises a ValueError that names the stage, the reason and what was not run."""
    toy.set_command("download", "echo no such city; exit 1")
    with pytest.raises(ValueError, match=r"^download failed: no such city; not run: train@ce-0$"):
        retrain_module.run_flow(["train@ce-0"])


def test_a_changed_folder_is_taken_in(toy: SampleProject, tree: Path) -> None:
    """DVC cannot see the folder that the data came from; a changed file in it reruns download."""
    drawn = download.Synthetic(train=1, val=1, size=(64, 128), seed=0)
    params = download.Download(source="folder", folder=str(tree), synthetic=drawn)
    download.download_data(params, out=Path("taken"), progress=lambda done, total: None)
    toy.set_command("download", "echo raw > raw; cp taken/source.json .")
    toy.repro()
    assert FRESH == task_runs(retrain(["download"]))["download"]
    next(tree.rglob("*.png")).touch()
    assert RAN == task_runs(retrain(["download"]))["download"]


def test_the_report_tells_states_scores_and_ablation(toy: SampleProject) -> None:
    """The artifact holds a row per stage, the mIoU of each arm, and the ablation's own report."""
    metrics = {"evaluate/ce-0/metrics.json": {"cache": False}}
    toy.stages = {"ablation": {"cmd": "true", "metrics": [metrics], "outs": ["ablation.md"]}}
    score = json.dumps({"miou": 0.12344, "miou_low": 0.1, "miou_high": None, "protocol": "val5"})
    scoring = f"mkdir -p evaluate/ce-0; echo '{score}' > evaluate/ce-0/metrics.json"
    toy.set_command("ablation", f"{scoring}; echo '# Dice or CE' > ablation.md")
    retrain()
    text = report()
    assert "| ablation | ran |" in text
    assert "| ce-0 | 12.3 | 10.0 to - | val5 |" in text
    assert text.endswith("\n\n## Dice or CE\n")


def test_the_form_explains_its_fields() -> None:
    """The parameters that Prefect's form shows come with a description."""
    properties = retrain_module.retrain.parameters.properties
    assert {"overrides", "stages", "force", "promote"} == set(properties)
    assert all(field.get("description") for field in properties.values())


def test_a_server_that_does_not_answer_is_done_without() -> None:
    """With PREFECT_API_URL set to nobody's address the flow uses a temporary server."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        with retrain_module._use_server():
            assert PREFECT_API_URL.value() is None
        assert "http://127.0.0.1:1/api" == PREFECT_API_URL.value()
