"""MLflow's pages in headless Chromium (mark `browser`)."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline.tracking import client as tracking_client
from pipeline.tracking import store
from segformer import segmenter
from segformer.inference.settings import InferenceSettings
from segformer.model.segformer import SegFormer
from segformer.training.state import StepRecord
from segformer.weights import checkpoint
from tests.end_to_end.test_tracking_server import MlflowServer
from tests.fakes import browser

pytestmark = browser.BROWSER_MARKS


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server with two arms and their ablation; yield the registered version of a model."""
    folder = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    checkpoint.save(SegFormer("b0"), folder / "model")
    report = folder / "report"
    report.mkdir()
    (report / "ablation.md").write_text("# Dice or CE\n\n**Inconclusive.**\n")
    Image.new("RGB", (8, 8)).save(folder / "confusion.png")
    server = MlflowServer(folder)
    with pytest.MonkeyPatch.context() as patch, server.running():
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", server.address)
        arms = []
        for loss, miou in (("ce", 0.4321), ("dice", 0.5678)):
            with tracking_client.start_training_run(
                f"{loss}-0", {"train.steps": 9}, {"loss": loss}
            ) as run:
                for step in (3, 6, 9):
                    run.report(StepRecord(step, 9, 1 / step, 6e-5, 10.0, miou))
            arms.append({"mlflow_run_id": run.id})
            with tracking_client.resume_run(arms[-1], f"{loss}-0") as run:
                run.log_evaluation({"miou": miou}, {}, "val2/official/64x128/whole/ss/last")
                run.log_artifacts(folder / "confusion.png", artifact_path="evaluate")
                run.log_model(
                    folder / "model",
                    example=segmenter.make_example((32, 64)),
                    settings=InferenceSettings(),
                )
        tracking_client.log_ablation_run("ablation", arms, {"difference": 0.1}, report)
        client = tracking_client.MlflowClient(server.address)
        experiment = client.get_experiment_by_name(store.DEFAULT_EXPERIMENT).experiment_id
        [logged, _] = client.search_logged_models([experiment])
        client.create_registered_model(store.MODEL_NAME)
        version = client.create_model_version(
            store.MODEL_NAME,
            logged.artifact_location,
            run_id=logged.source_run_id,
            model_id=logged.model_id,
        )
        yield str(version.version)


@pytest.fixture
def page() -> Iterator[Any]:
    """An empty tab."""
    with browser.open_page() as page:
        page.set_viewport_size({"width": 1900, "height": 1200})  # MLflow draws only what is in view
        yield page


def test_page_of_the_runs(version: str, page: Any) -> None:
    """The address that `results` prints shows each arm with its mIoU, the best one first."""
    page.goto(store.page_url())
    for text in ("eval/miou", "train.steps", "protocol", "0.5678", "ablation"):
        page.get_by_text(text, exact=True).first.wait_for()
    names = page.get_by_role("link", name=re.compile("^(ce|dice)-0$")).all_inner_texts()
    assert ["dice-0", "ce-0"] == names


def test_charts_compare_the_arms(version: str, page: Any) -> None:
    """The first charts are those of training and validation, with a line for each arm."""
    page.goto(f"{store.page_url()}&compareRunsMode=CHART")
    for text in ("ce-0 (train/loss)", "dice-0 (train/loss)", "dice-0 (val/miou)"):
        page.get_by_text(text, exact=True).first.wait_for()


def test_signature_of_a_model(version: str, page: Any) -> None:
    """The page of a registered model shows its inputs and outputs."""
    server = store.page_url().partition("#")[0]
    page.goto(f"{server}#/models/{store.MODEL_NAME}/versions/{version}")
    for text in ("Schema", "Inputs (1)", "Outputs (1)"):
        page.get_by_text(text, exact=True).wait_for()


def find_run_url(name: str) -> str:
    """Return the address of the run with a name."""
    client = tracking_client.MlflowClient(store.tracking_uri())
    experiment = client.get_experiment_by_name(store.DEFAULT_EXPERIMENT).experiment_id
    (run,) = client.search_runs([experiment], f"attributes.run_name = '{name}'")
    return store.run_url(experiment, run.info.run_id)


def open_file(page: Any, run: str, folder: str, file: str) -> None:
    """Open a file of a run by clicks: the run, its artifacts, the folder, the file."""
    page.goto(find_run_url(run))
    page.get_by_role("tab", name="Artifacts").click()
    for name in (folder, file):
        page.get_by_test_id("artifact-tree-node").get_by_text(name, exact=True).click()


def test_image_of_a_run(version: str, page: Any) -> None:
    """The confusion matrix is in the folder of the evaluation, and its image is displayed."""
    open_file(page, "ce-0", "evaluate", "confusion.png")
    assert browser.is_image_loaded(
        page.locator("img[src^='blob:'], img[src*='confusion.png']").first
    )


def test_report_of_an_ablation(version: str, page: Any) -> None:
    """The report is displayed as a page, not as Markdown source."""
    open_file(page, "ablation", "ablation", "ablation.md")
    page.get_by_role("heading", name="Dice or CE").wait_for()


def test_links_between_parent_and_children(version: str, page: Any) -> None:
    """The ablation's page links the arms that it compares, an arm's page its ablation."""
    page.goto(find_run_url("ablation"))
    page.get_by_role("link", name="dice-0", exact=True).click()
    page.get_by_role("heading", name="dice-0").wait_for()
    page.get_by_role("link", name="ablation", exact=True).click()
    page.get_by_role("heading", name="ablation").wait_for()
