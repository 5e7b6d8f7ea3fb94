"""pipeline.flows.retrain with a real Prefect server, on a small DVC project."""

import json
import os
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
from prefect.states import Running
from prefect.testing.utilities import prefect_test_harness

from pipeline import dvc, locks
from pipeline.flows import deployment, tasks
from pipeline.flows import retrain as flow
from pipeline.stages import download
from tests.fakes.sample_project import SampleProject

TRAIN = ["train@ce-0", "train@dice-0"]
ALL = ["download", *TRAIN, "ablation"]
UP_TO_DATE = ("Cached", "up to date")
RAN = ("Completed", "ran")


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """A Prefect server with an empty database."""
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def project(server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleProject:
    """A project in which no stage has run."""
    return SampleProject(tmp_path / "project", monkeypatch)


def retrain(stages: list[str] | None = None, *, force: bool = False) -> State:
    """Run the flow and return its final state."""
    state: State = flow.retrain(stages=stages or [], force=force, return_state=True)
    return state


def task_runs(state: State) -> dict[str, tuple[str | None, str]]:
    """Return state and message of each task run of a flow run, in order of their start.

    Task runs are stored with a delay, so wait until all are final.
    """
    flow_run_id = state.state_details.flow_run_id
    assert isinstance(flow_run_id, UUID)
    of_this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=of_this_run)
        states = [run.state for run in runs if run.state]
        if len(runs) == len(states) and all(s.is_final() or s.name == "NotReady" for s in states):
            runs.sort(key=lambda run: run.created or 0)
            return {
                run.name: (run.state.name, run.state.message or "") for run in runs if run.state
            }
        time.sleep(0.2)
    raise AssertionError(f"task runs did not settle: {states}")


def latest_report() -> str:
    """Return the text of the latest report artifact."""
    body = {"artifacts": {"key": {"any_": ["retrain-report"]}}, "sort": "CREATED_DESC", "limit": 1}
    with get_client(sync_client=True) as client:
        (artifact,) = client.request("POST", "/artifacts/filter", json=body).json()
    return str(artifact["data"])


def test_every_stage_has_a_task_run(project: SampleProject) -> None:
    """In a new project all stages run, in order, each as a task run with its name."""
    state = retrain()
    assert f"ran: {', '.join(ALL)}" == state.message
    assert dict.fromkeys(ALL, RAN) == task_runs(state)


def test_up_to_date_and_restored_stages_have_different_messages(project: SampleProject) -> None:
    """Both a stage that is up to date and a restored stage are Cached; their messages differ."""
    for rate in (1, 2):
        project.set_learning_rate(rate)
        project.repro()
    project.set_learning_rate(1)
    state = retrain()
    assert ("Cached", "everything is up to date") == (state.name, state.message)
    restored = ("Cached", "restored from DVC's cache of earlier runs")
    expected = {
        "download": UP_TO_DATE,
        TRAIN[0]: restored,
        TRAIN[1]: restored,
        "ablation": UP_TO_DATE,
    }
    assert expected == task_runs(state)


def test_retraining_without_stale_stages(
    project: SampleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If all stages are up to date, DVC runs none of them, and the report says so."""
    project.repro()
    monkeypatch.setattr(dvc, "run_stage", lambda *_, **__: pytest.fail("a stage is run"))
    state = retrain()
    assert ("Cached", "everything is up to date") == (state.name, state.message)
    assert dict.fromkeys(ALL, UP_TO_DATE) == task_runs(state)
    text = latest_report()
    assert text.startswith("**Everything is up to date.**")
    for stage in ALL:
        assert f"| {stage} | up to date |" in text


def test_downstream_stages_of_a_failed_stage_do_not_run(project: SampleProject) -> None:
    """The failed task run has the last lines, downstream stages are NotReady, others run."""
    project.set_command(
        "train", "test ${item.loss} = dice && cp raw dice-0 || (echo no memory; exit 9)"
    )
    state = retrain()
    message = "train@ce-0 failed: no memory; not run: ablation"
    assert ("Failed", message) == (state.name, state.message)
    runs = task_runs(state)
    assert ("Failed", "train@ce-0: exit status 9; last lines:\nno memory") == runs["train@ce-0"]
    assert RAN == runs["train@dice-0"]
    assert "NotReady" == runs["ablation"][0]
    assert not Path("ablation.md").exists()
    assert "| ablation | not run |" in latest_report()


def test_busy_workspace_has_its_own_state(project: SampleProject) -> None:
    """While another DVC process is running, the task run is Busy, and its message names it."""
    lock = {"write": {str(Path("raw").resolve()): {"pid": 1, "cmd": "/bin/dvc repro download"}}}
    Path(".dvc/tmp").mkdir()
    Path(".dvc/tmp/rwlock").write_text(json.dumps(lock))
    name, message = task_runs(retrain(["download"]))["download"]
    assert "Busy" == name
    assert "process 1 (dvc repro download) has locked raw" in message


def test_force_applies_to_the_selected_stages_only(project: SampleProject) -> None:
    """`stages` includes the upstream stages; `force` runs the selected ones only."""
    project.repro()
    expected = {"download": UP_TO_DATE, "train@dice-0": RAN}
    assert expected == task_runs(retrain(["train@dice-0"], force=True))


def test_concurrent_retraining_is_cancelled(project: SampleProject) -> None:
    """A retraining in a folder that another one has locked is cancelled with a message."""
    with locks.lock_workspace("flow run calm-otter", project.folder):
        state = retrain()
    assert "Cancelled" == state.name
    assert "a retraining is already running in this folder (flow run calm-otter" in (
        state.message or ""
    )


def test_overrides_and_force_cannot_be_combined(project: SampleProject) -> None:
    """Overrides with `force` are rejected, since DVC would also force all upstream stages."""
    with pytest.raises(ValueError, match="overrides and force cannot be combined"):
        flow.run_flow(overrides=["lr=2"], force=True)


@pytest.mark.parametrize(
    ("exit_status", "num_runs", "state_name"),
    [(os.EX_TEMPFAIL, 3, "Unavailable"), (1, 1, "Failed")],
)
def test_only_an_unavailable_site_is_retried(
    project: SampleProject,
    monkeypatch: pytest.MonkeyPatch,
    exit_status: int,
    num_runs: int,
    state_name: str,
) -> None:
    """A download that ends with EX_TEMPFAIL is run again twice; any other failure is final."""
    without_delay = tasks.run_download_stage.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(tasks, "run_download_stage", without_delay)
    project.set_command("download", f"echo run >> runs; echo no server; exit {exit_status}")
    state = retrain(["download"])
    assert f"download {state_name.lower()}: no server" == state.message
    assert num_runs == len(Path("runs").read_text().splitlines())
    assert state_name == task_runs(state)["download"][0]


def test_other_stages_are_not_retried() -> None:
    """Only the download has retries."""
    assert 2 == tasks.run_download_stage.retries
    assert 0 == tasks.run_dvc_stage.retries


def test_automation_expects_all_final_states() -> None:
    """A run that ended in any of the flow's final states is not marked as crashed."""
    ends = {"Completed", "Cached", "Failed", "Cancelled", "Crashed"}
    expected = {f"prefect.flow-run.{end}" for end in ends}
    trigger = deployment._heartbeat_automation().trigger
    assert isinstance(trigger, EventTrigger)
    assert expected <= trigger.expect


def test_only_runs_of_this_flow_are_marked_as_crashed(project: SampleProject) -> None:
    """A run of another project's deployment with the same name is not changed."""
    runs = {}
    with get_client(sync_client=True) as client:
        for name in ("retrain", "billing"):
            flow_id = client.request("POST", "/flows/", json={"name": name}).json()["id"]
            body = {"name": deployment.DEPLOYMENT_NAME, "flow_id": flow_id}
            deployment_id = client.request("POST", "/deployments/", json=body).json()["id"]
            runs[name] = client.create_flow_run_from_deployment(UUID(deployment_id)).id
            client.set_flow_run_state(runs[name], Running(), force=True)
        deployment._mark_dead_runs_crashed()
        states = {name: client.read_flow_run(run).state_name for name, run in runs.items()}
    assert {"retrain": "Crashed", "billing": "Running"} == states


def test_invalid_arguments_are_rejected_before_a_server_starts(
    project: SampleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error lists all invalid arguments with suggestions, before a server is started."""
    monkeypatch.setattr(flow, "_use_server", lambda: pytest.fail("a server is started"))
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared
        flow.run_flow(["trian", "ablatoin"], overrides=["lrr=2"])
    expected = (
        "overrides: lrr is not a parameter, did you mean lr?\n"
        "trian is not a stage of dvc.yaml, did you mean train?\n"
        "ablatoin is not a stage of dvc.yaml, did you mean ablation?"
    )
    assert expected == str(error.value)


def test_failure_is_raised_to_the_command_line(project: SampleProject) -> None:
    """`run_flow` raises ValueError with the stage, the reason and the stages that did not run."""
    project.set_command("download", "echo no such city; exit 1")
    with pytest.raises(ValueError, match=r"^download failed: no such city; not run: train@ce-0$"):
        flow.run_flow(["train@ce-0"])


def test_changed_source_folder_reruns_download(project: SampleProject, tree: Path) -> None:
    """A changed file in the source folder, which DVC does not track, runs `download` again."""
    synthetic = download.Synthetic(train=1, val=1, size=(64, 128), seed=0)
    params = download.Download(source="folder", folder=str(tree), synthetic=synthetic)
    download.download_data(params, out=Path("taken"), progress=lambda done, total: None)
    project.set_command("download", "echo raw > raw; cp taken/source.json .")
    project.repro()
    assert UP_TO_DATE == task_runs(retrain(["download"]))["download"]
    next(tree.rglob("*.png")).touch()
    assert RAN == task_runs(retrain(["download"]))["download"]


def test_report_has_states_scores_and_reports(project: SampleProject) -> None:
    """The artifact has a row per stage, the mIoU of each arm, and the reports of both stages."""
    metrics = {"evaluate/ce-0/metrics.json": {"cache": False}}
    outs = ["ablation.md", "explain.md"]
    project.stages = {"ablation": {"cmd": "true", "metrics": [metrics], "outs": outs}}
    score = json.dumps({"miou": 0.12344, "miou_low": 0.1, "miou_high": None, "protocol": "val5"})
    scoring = f"mkdir -p evaluate/ce-0; echo '{score}' > evaluate/ce-0/metrics.json"
    reports = "echo '# Dice or CE' > ablation.md; echo '# Attention heads' > explain.md"
    project.set_command("ablation", f"{scoring}; {reports}")
    retrain()
    text = latest_report()
    assert "| ablation | ran |" in text
    assert "| ce-0 | 12.3 | 10.0 to n/a | val5 |" in text
    assert text.endswith("\n\n## Dice or CE\n\n\n## Attention heads\n")


def test_parameters_have_descriptions() -> None:
    """All parameters in Prefect's form have a description."""
    properties = flow.retrain.parameters.properties
    assert {"overrides", "stages", "force", "promote"} == set(properties)
    assert all(field.get("description") for field in properties.values())


def test_unreachable_server_is_replaced_by_a_temporary_one() -> None:
    """If the server at PREFECT_API_URL does not respond, the flow uses a temporary server."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        with flow._use_server():
            assert PREFECT_API_URL.value() is None
        assert "http://127.0.0.1:1/api" == PREFECT_API_URL.value()
