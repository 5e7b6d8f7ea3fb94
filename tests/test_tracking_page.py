"""MLflow's page in headless Chromium, as a person opens it (mark `browser`)."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline import store, tracking
from segformer import checkpoint, serving
from segformer.model import SegFormer
from segformer.training_state import Progress
from tests.test_tracking_server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with two arms and their ablation; the registered version of a model of theirs."""
    folder = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    checkpoint.save(SegFormer("b0"), folder / "model")
    server = Server(folder)
    with pytest.MonkeyPatch.context() as patch, server.running():
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", server.address)
        arms = []
        for loss, miou in (("ce", 0.4321), ("dice", 0.5678)):
            with tracking.training_run(f"{loss}-0", {"train.steps": 9}, {"loss": loss}) as run:
                for step in (3, 6, 9):
                    run.report(Progress(step, 9, 1 / step, 6e-5, 10.0, miou))
            arms.append({"mlflow_run_id": run.id})
            with tracking.resumed_run(arms[-1], f"{loss}-0") as run:
                run.log_evaluation({"miou": miou}, {}, "val2/official/64x128/whole/ss/last")
                run.log_model(folder / "model", example=serving.example((32, 64)))
        tracking.ablation_run("ablation", arms, {"difference": 0.1}, folder / "model")
        client = tracking.MlflowClient(server.address)
        experiment = client.get_experiment_by_name(store.EXPERIMENT).experiment_id
        [one, _] = client.search_logged_models([experiment])
        client.create_registered_model(store.MODEL)
        place, run_id = one.artifact_location, one.source_run_id
        made = client.create_model_version(store.MODEL, place, run_id=run_id, model_id=one.model_id)
        yield str(made.version)


def opened(address: str, profile: Path) -> str:
    """What Chromium shows of a page once it is still, as HTML."""
    assert CHROMIUM
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    still = ["--virtual-time-budget=30000", "--window-size=1900,1200", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *options, *still, address], capture_output=True, timeout=120)
    return done.stdout.decode()


def test_the_runs_are_useful_at_first_sight(version: str, tmp_path: Path) -> None:
    """The address that `results` names shows every arm with its mIoU, the best one first."""
    page = opened(store.page(), tmp_path)
    for text in ("eval/miou", "train.steps", "0.5678", "ablation"):
        assert text in page
    assert page.index("dice-0") < page.index("ce-0")


def test_charts_compare_the_arms(version: str, tmp_path: Path) -> None:
    """The charts begin with those of training and validation, a line for each arm."""
    page = opened(f"{store.page()}&compareRunsMode=CHART", tmp_path)
    for text in ("ce-0 (train/loss)", "dice-0 (train/loss)", "dice-0 (val/miou)"):
        assert text in page


def test_a_model_shows_its_signature(version: str, tmp_path: Path) -> None:
    """The page of a registered model tells what goes in and what comes out."""
    server = store.page().partition("#")[0]
    page = opened(f"{server}#/models/{store.MODEL}/versions/{version}", tmp_path)
    for text in ("Schema", "Inputs (1)", "Outputs (1)"):
        assert text in page
