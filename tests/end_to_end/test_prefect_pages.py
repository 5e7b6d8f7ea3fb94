"""Prefect's pages in a browser, as a user sees them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from PIL import Image

from pipeline.tracking import store
from tests.end_to_end.test_tracking_server import Server
from tests.fakes import browser
from tests.fakes.prefect_server import PrefectServer, wait_until
from tests.fakes.sample_project import SampleProject

pytestmark = browser.BROWSER_MARKS

TRAINED = '{"mlflow_run_id": "%s", "lr": ${lr}}'


class Shown:
    """A project in miniature whose pages are looked at; its trainings wait until they may end.

    Args:
        toy: the project.
        run_id: of the run in MLflow that its trainings say they are.
    """

    def __init__(self, toy: SampleProject, run_id: str) -> None:
        self.toy = toy
        self.run_id = run_id
        self.may_end = toy.folder.parent / "may-end"
        self.may_end.touch()
        train, ablation = toy.stages["train"], toy.stages["ablation"]
        fact = TRAINED % run_id
        train["cmd"] = (
            f"echo learning rate ${{lr}}; until test -e {self.may_end}; do sleep 0.1; done;"
            f" mkdir -p ${{item.loss}}-0; echo '{fact}' > ${{item.loss}}-0/run.json"
        )
        train["outs"] = ["${item.loss}-${item.seed}/run.json"]
        Image.new("RGB", (8, 8)).save(toy.folder / "drawn.png")
        ablation["cmd"] = "cp drawn.png curve.png; echo '![The curve](curve.png)' > ablation.md"
        ablation["outs"] = ["ablation.md", "curve.png"]
        toy.save()
        toy.init_git()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shown, str]]:
    """The project, and the address of a server of MLflow's that knows its run."""
    folder = tmp_path_factory.mktemp("pages")
    mlflow = Server(folder)
    with pytest.MonkeyPatch.context() as patch, mlflow.running():
        yield Shown(SampleProject(folder / "toy", patch), made_run(mlflow.address)), mlflow.address


def made_run(mlflow: str) -> str:
    """The id of a run that was made just now."""

    def made(what: str, **told: str) -> Any:
        answer = requests.post(f"{mlflow}/api/2.0/mlflow/{what}/create", json=told, timeout=20)
        answer.raise_for_status()
        return answer.json()

    experiment = made("experiments", name=store.DEFAULT_EXPERIMENT)["experiment_id"]
    run = made("runs", experiment_id=experiment, run_name="of-this-test")["run"]
    return str(run["info"]["run_id"])


@pytest.fixture(scope="module")
def toy(shown: tuple[Shown, str]) -> SampleProject:
    """The project."""
    return shown[0].toy


@pytest.fixture(scope="module")
def prefect(shown: tuple[Shown, str]) -> Iterator[PrefectServer]:
    """A server, and the project's deployment."""
    folder = shown[0].toy.folder
    prefect = PrefectServer(folder.parent, folder, mlflow=shown[1])
    try:
        yield prefect
    finally:
        prefect.stop()


@pytest.fixture(scope="module")
def retrained(prefect: PrefectServer, toy: SampleProject) -> str:
    """The id of a run in which every stage was brought up to date."""
    run = prefect.start_run()
    assert "Completed" == prefect.final_state(run)[0]
    return run


@pytest.fixture
def page() -> Iterator[Any]:
    """An empty tab of a browser without a window."""
    with browser.open_page() as page:
        yield page


def artifact(prefect: PrefectServer, run: str, key: str) -> str:
    """The page of an artifact of a run."""
    wanted = {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}
    (found,) = prefect.request("/artifacts/filter", artifacts=wanted)
    return f"{prefect.url}/v2/artifacts/artifact/{found['id']}"


def test_the_schedule_is_shown_and_can_be_paused(prefect: PrefectServer, page: Any) -> None:
    """The deployment's page tells the schedule in words, and its switch pauses it."""
    page.goto(f"{prefect.url}/v2/deployments/deployment/{prefect.deployment}")
    page.get_by_text("At 02:00 AM, only on Sunday").wait_for()
    page.get_by_role("switch").last_lines.click()
    page.get_by_role("switch", checked=False).last_lines.wait_for()
    schedule = prefect.request(f"/deployments/{prefect.deployment}")["schedules"][0]
    assert not schedule["active"]


def test_a_run_started_from_the_form_completes(prefect: PrefectServer, page: Any) -> None:
    """The form's fields are explained, and a run with an override shows its stages as tasks."""
    page.goto(f"{prefect.url}/v2/deployments/deployment/{prefect.deployment}/run")
    page.get_by_text("Parameters that are to differ from params.yaml").wait_for()
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


def test_lines_are_shown_while_a_stage_is_at_work(
    prefect: PrefectServer, shown: tuple[Shown, str], toy: SampleProject, page: Any
) -> None:
    """What DVC says of a stage, and what the stage itself says, is in the log before it ends."""
    toy.set_learning_rate(7)
    shown[0].may_end.unlink()
    run = prefect.start_run(stages=["train@ce-0"])
    try:
        page.goto(f"{prefect.url}/v2/runs/flow-run/{run}?tab=Logs")
        page.get_by_text("Running stage 'train@ce-0':", exact=True).wait_for()
        page.get_by_text("learning rate 7", exact=True).wait_for()
        assert "Running" == prefect.run_state(run)["name"]
    finally:
        shown[0].may_end.touch()
    assert "Completed" == prefect.final_state(run)[0]


def test_fresh_stages_are_told_from_those_that_ran(
    prefect: PrefectServer, retrained: str, toy: SampleProject, page: Any
) -> None:
    """After another learning rate, the download is Cached and the training is Completed."""
    toy.set_learning_rate(8)
    run = prefect.start_run(stages=["train@ce-0"])
    assert ("Completed", "ran: train@ce-0") == prefect.final_state(run)
    page.goto(f"{prefect.url}/v2/runs/flow-run/{run}?tab=TaskRuns")
    page.get_by_text("2 Task runs", exact=True).last_lines.wait_for()
    for line in (r"\bdownload\s+Cached\b", r"\btrain@ce-0\s+Completed\b"):
        assert wait_until(lambda: re.search(line, page.inner_text("body")), timeout_s=20)


def test_the_report_opens(prefect: PrefectServer, retrained: str, page: Any) -> None:
    """Its table has a row for each stage, and the ablation's picture is drawn."""
    page.goto(artifact(prefect, retrained, "retrain-report"))
    for stage in ("download", "train@ce-0", "train@dice-0", "ablation"):
        page.get_by_role("cell", name=stage, exact=True).wait_for()
    assert browser.is_image_loaded(page.get_by_alt_text("The curve"))


def test_a_link_leads_to_the_run(
    prefect: PrefectServer, retrained: str, shown: tuple[Shown, str], page: Any
) -> None:
    """A click on an arm's name opens the run that trained it, in MLflow."""
    page.goto(artifact(prefect, retrained, "retrain-runs"))
    page.get_by_role("link", name="ce-0", exact=True).click()
    page.get_by_role("heading", name="of-this-test").wait_for()
    assert f"/runs/{shown[0].run_id}" in page.url
