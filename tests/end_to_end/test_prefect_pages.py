"""Prefect's pages in a browser."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from PIL import Image

from pipeline.tracking import store
from tests.end_to_end.test_tracking_server import MlflowServer
from tests.fakes import browser
from tests.fakes.prefect_server import PrefectServer, wait_until
from tests.fakes.sample_project import SampleProject

pytestmark = browser.BROWSER_MARKS

RUN_RECORD = '{"mlflow_run_id": "%s", "lr": ${lr}}'


class PausableProject:
    """A small project whose trainings wait until the file `may_end` exists.

    Args:
        project: the project.
        run_id: id of the MLflow run that its trainings record.
    """

    def __init__(self, project: SampleProject, run_id: str) -> None:
        self.project = project
        self.run_id = run_id
        self.may_end = project.folder.parent / "may-end"
        self.may_end.touch()
        train, ablation = project.stages["train"], project.stages["ablation"]
        record = RUN_RECORD % run_id
        train["cmd"] = (
            f"echo learning rate ${{lr}}; until test -e {self.may_end}; do sleep 0.1; done;"
            f" mkdir -p ${{item.loss}}-0; echo '{record}' > ${{item.loss}}-0/run.json"
        )
        train["outs"] = ["${item.loss}-${item.seed}/run.json"]
        Image.new("RGB", (8, 8)).save(project.folder / "plot.png")
        ablation["cmd"] = "cp plot.png curve.png; echo '![The curve](curve.png)' > ablation.md"
        ablation["outs"] = ["ablation.md", "curve.png"]
        project.save()
        project.init_git()


@pytest.fixture(scope="module")
def project_and_mlflow(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[PausableProject, str]]:
    """The project, and the address of an MLflow server with its run."""
    folder = tmp_path_factory.mktemp("pages")
    mlflow = MlflowServer(folder)
    with pytest.MonkeyPatch.context() as patch, mlflow.running():
        yield (
            PausableProject(SampleProject(folder / "project", patch), create_run(mlflow.address)),
            mlflow.address,
        )


def create_run(mlflow: str) -> str:
    """Create a run in MLflow, and return its id."""

    def create(resource: str, **fields: str) -> Any:
        response = requests.post(
            f"{mlflow}/api/2.0/mlflow/{resource}/create", json=fields, timeout=20
        )
        response.raise_for_status()
        return response.json()

    experiment = create("experiments", name=store.DEFAULT_EXPERIMENT)["experiment_id"]
    run = create("runs", experiment_id=experiment, run_name="of-this-test")["run"]
    return str(run["info"]["run_id"])


@pytest.fixture(scope="module")
def project(project_and_mlflow: tuple[PausableProject, str]) -> SampleProject:
    """The project."""
    return project_and_mlflow[0].project


@pytest.fixture(scope="module")
def prefect(project_and_mlflow: tuple[PausableProject, str]) -> Iterator[PrefectServer]:
    """A server with the project's deployment."""
    folder = project_and_mlflow[0].project.folder
    prefect = PrefectServer(folder.parent, folder, mlflow=project_and_mlflow[1])
    try:
        yield prefect
    finally:
        prefect.stop()


@pytest.fixture(scope="module")
def retrained(prefect: PrefectServer, project: SampleProject) -> str:
    """The id of a completed run of all stages."""
    run = prefect.start_run()
    assert "Completed" == prefect.final_state(run)[0]
    return run


@pytest.fixture
def page() -> Iterator[Any]:
    """An empty tab of a headless browser."""
    with browser.open_page() as page:
        yield page


def artifact_url(prefect: PrefectServer, run: str, key: str) -> str:
    """Return the URL of an artifact of a run."""
    query = {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}
    (artifact,) = prefect.request("/artifacts/filter", artifacts=query)
    return f"{prefect.url}/v2/artifacts/artifact/{artifact['id']}"


def test_schedule_can_be_paused(prefect: PrefectServer, page: Any) -> None:
    """The deployment's page describes the schedule, and its switch pauses it."""
    page.goto(f"{prefect.url}/v2/deployments/deployment/{prefect.deployment}")
    page.get_by_text("At 02:00 AM, only on Sunday").wait_for()
    page.get_by_role("switch").last.click()
    page.get_by_role("switch", checked=False).last.wait_for()
    schedule = prefect.request(f"/deployments/{prefect.deployment}")["schedules"][0]
    assert not schedule["active"]


def test_run_started_from_the_form_completes(prefect: PrefectServer, page: Any) -> None:
    """The form's fields have descriptions, and a run with an override has a task run per stage."""
    page.goto(f"{prefect.url}/v2/deployments/deployment/{prefect.deployment}/run")
    page.get_by_text("Changed parameters, one per item").wait_for()
    page.get_by_role("button", name="Add item").first.click()
    page.locator("textarea").first.fill("lr=3")
    page.get_by_role("switch").nth(1).click()  # promote
    page.get_by_role("textbox").first.fill("from-the-form")
    page.get_by_role("button", name="Submit").click()
    (run,) = prefect.find_runs("from-the-form")
    assert ("Completed", "ran: download, train@ce-0, train@dice-0, ablation") == (
        prefect.final_state(run)
    )
    page.goto(f"{prefect.url}/v2/runs/flow-run/{run}?tab=TaskRuns")
    for stage in ("download", "train@ce-0", "ablation"):
        page.get_by_text(stage, exact=True).first.wait_for()


def test_log_is_shown_while_a_stage_runs(
    prefect: PrefectServer,
    project_and_mlflow: tuple[PausableProject, str],
    project: SampleProject,
    page: Any,
) -> None:
    """The output of DVC and of the stage is in the log before the stage ends."""
    project.set_learning_rate(7)
    project_and_mlflow[0].may_end.unlink()
    run = prefect.start_run(stages=["train@ce-0"])
    try:
        page.goto(f"{prefect.url}/v2/runs/flow-run/{run}?tab=Logs")
        page.get_by_text("Running stage 'train@ce-0':", exact=True).wait_for()
        page.get_by_text("learning rate 7", exact=True).wait_for()
        assert "Running" == prefect.run_state(run)["name"]
    finally:
        project_and_mlflow[0].may_end.touch()
    assert "Completed" == prefect.final_state(run)[0]


def test_cached_and_completed_stages_are_distinguished(
    prefect: PrefectServer, retrained: str, project: SampleProject, page: Any
) -> None:
    """With another learning rate, the download is Cached and the training is Completed."""
    project.set_learning_rate(8)
    run = prefect.start_run(stages=["train@ce-0"])
    assert ("Completed", "ran: train@ce-0") == prefect.final_state(run)
    page.goto(f"{prefect.url}/v2/runs/flow-run/{run}?tab=TaskRuns")
    page.get_by_text("2 Task runs", exact=True).last.wait_for()
    for pattern in (r"\bdownload\s+Cached\b", r"\btrain@ce-0\s+Completed\b"):
        assert wait_until(
            lambda pattern=pattern: re.search(pattern, page.inner_text("body")), timeout_s=20
        )


def test_report_page(prefect: PrefectServer, retrained: str, page: Any) -> None:
    """The report has a row for each stage, and the ablation's image is loaded."""
    page.goto(artifact_url(prefect, retrained, "retrain-report"))
    for stage in ("download", "train@ce-0", "train@dice-0", "ablation"):
        page.get_by_role("cell", name=stage, exact=True).wait_for()
    assert browser.is_image_loaded(page.get_by_alt_text("The curve"))


def test_link_opens_the_run(
    prefect: PrefectServer,
    retrained: str,
    project_and_mlflow: tuple[PausableProject, str],
    page: Any,
) -> None:
    """A click on an arm's name opens the run that trained it in MLflow."""
    page.goto(artifact_url(prefect, retrained, "retrain-runs"))
    page.get_by_role("link", name="ce-0", exact=True).click()
    page.get_by_role("heading", name="of-this-test").wait_for()
    assert f"/runs/{project_and_mlflow[0].run_id}" in page.url
