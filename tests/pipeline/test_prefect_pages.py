"""Prefect's pages in a browser, as a user sees them."""

import shutil
from collections.abc import Iterator

import pytest

from tests.pipeline.own_prefect import OwnPrefect
from tests.pipeline.toy_project import ToyProject

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPrefect]:
    """A server, and the deployment of a project in miniature."""
    with pytest.MonkeyPatch.context() as patch:
        toy = ToyProject(tmp_path_factory.mktemp("pages") / "toy", patch)
        toy.into_git()
        prefect = OwnPrefect(toy.folder.parent, toy.folder)
        try:
            yield prefect
        finally:
            prefect.end()


@pytest.fixture
def page(prefect: OwnPrefect) -> Iterator["playwright.Page"]:
    """An empty tab of a browser without a window."""
    with playwright.sync_playwright() as driver:
        # Without its sandbox it also runs as root, as in a container.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def test_the_schedule_is_shown_and_can_be_paused(
    prefect: OwnPrefect, page: "playwright.Page"
) -> None:
    """The deployment's page tells the schedule in words, and its switch pauses it."""
    page.goto(f"{prefect.page}/v2/deployments/deployment/{prefect.deployment}")
    page.get_by_text("At 02:00 AM, only on Sunday").wait_for()
    page.get_by_role("switch").last.click()
    page.get_by_role("switch", checked=False).last.wait_for()
    schedule = prefect.ask(f"/deployments/{prefect.deployment}")["schedules"][0]
    assert not schedule["active"]


def test_a_run_started_from_the_form_completes(
    prefect: OwnPrefect, page: "playwright.Page"
) -> None:
    """The form's fields are explained, and a run with an override shows its stages as tasks."""
    page.goto(f"{prefect.page}/v2/deployments/deployment/{prefect.deployment}/run")
    page.get_by_text("Parameters that are to differ from params.yaml").wait_for()
    page.get_by_role("button", name="Add item").first.click()
    page.locator("textarea").first.fill("lr=3")
    page.get_by_role("switch").nth(1).click()  # promote
    page.get_by_role("textbox").first.fill("from-the-form")
    page.get_by_role("button", name="Submit").click()
    (run,) = prefect.named("from-the-form")
    assert ("Completed", "ran: download, train@ce-0, train@dice-0, ablation") == (
        prefect.end_state(run)
    )
    page.goto(f"{prefect.page}/v2/runs/flow-run/{run}?tab=TaskRuns")
    for stage in ("download", "train@ce-0", "ablation"):
        page.get_by_text(stage, exact=True).first.wait_for()
