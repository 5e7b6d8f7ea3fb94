"""The real stages on the real graph, with the tiniest data (mark `slow`)."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from signal import SIGKILL, SIGTERM, Signals
from tempfile import TemporaryFile

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline.synthetic import draw_frame

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "params.yaml"
TINY = {
    "download.synthetic": {"train": 3, "val": 2, "size": [64, 128], "seed": 0, "drive": 2},
    "pack.size": [64, 128],
    "train.steps": 2,
    "train.batch_size": 2,
    "train.warmup_steps": 1,
    "train.augment.crop": [64, 96],
    "train.report_every": 1,
    "train.validate_every": 1,
    "evaluate.size": [64, 128],
    "evaluate.worst": 1,
    "evaluate.bootstrap": 50,
    "ablation.seeds": [0],
    "ablation.bootstrap": 50,
    "explain.bootstrap": 50,
}


class DemoProject:
    """A clone of the project, made tiny, with an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
            "PREFECT_HOME": str(folder.parent / "prefect"),
        }
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
            self.environment.pop(name, None)

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command here and return what it printed; it must end with this exit code."""
        # Files, not pipes: a process that the command leaves behind, as `dvc queue start` does,
        # holds the pipes open.
        with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=errors
            )
            output.seek(0)
            errors.seek(0)
            printed = output.read()
            assert done.returncode == code, f"{command}\n{printed[-3000:]}{errors.read()[-3000:]}"
        return printed

    def dvc(self, *arguments: str) -> str:
        """Run DVC here."""
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def pipeline(self, *arguments: str, fails: bool = False) -> str:
        """Run the command line here; it must end well, or with exit code 1 if it `fails`."""
        return self.run(sys.executable, "-m", "pipeline", *arguments, code=int(fails))

    def runs(self) -> list[dict[str, str]]:
        """All MLflow runs, as the columns of `mlflow runs list` would not tell: from the store."""
        code = (
            "import json, mlflow\n"
            "mlflow.set_tracking_uri('sqlite:///mlflow.db')\n"
            "found = mlflow.MlflowClient().search_runs(['1'])\n"
            "print(json.dumps([dict(run.data.tags, status=run.info.status, id=run.info.run_id,"
            " metrics=sorted(run.data.metrics)) for run in found]))"
        )
        runs: list[dict[str, str]] = json.loads(self.run(sys.executable, "-c", code))
        return runs

    def interrupt(self, number: Signals, *, after_step: int, delay: float) -> None:
        """Begin or go on with train@ce-0, and end it some time after a step has been saved.

        Both DVC and the training get the signal; asked nicely, they must be gone in 10 seconds.
        """
        work = self.folder / ".work/checkpoints"
        command = [sys.executable, "-m", "dvc", "repro", "-f", "-s", "train@ce-0"]
        with (self.folder.parent / "interrupted.log").open("a") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 120
        while not any(saved_step(path) >= after_step for path in work.glob("*/step-*.pt")):
            assert process.poll() is None, "it ended before it was interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(delay)
        os.killpg(process.pid, number)
        deadline = time.monotonic() + 10
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.02)
            raise AssertionError("it is still there after 10 seconds")

    def bytes_of(self, folder: str) -> dict[str, bytes]:
        """What DVC has of a training, by name, but for the id of its run."""
        names = ("model.safetensors", "config.json", "history.csv")
        return {name: (self.folder / folder / name).read_bytes() for name in names}


def saved_step(path: Path) -> int:
    """The step whose state a file holds: `step-00000003-0123456789abcdef.pt`."""
    return int(path.name.split("-")[1])


def draw_tree(folder: Path, *, rows: int, columns: int) -> list[str]:
    """Draw four training and two validation frames as an extracted tree; return their keys."""
    keys = [f"train/avalon/avalon_{i:06}_000019" for i in range(4)]
    keys += [f"val/lyonesse/lyonesse_{i:06}_000019" for i in range(2)]
    for i, key in enumerate(keys):
        frame = draw_frame(np.random.default_rng(i), (rows, columns))
        pictures = {"leftImg8bit": frame.image, "gtFine_labelIds": frame.label_ids}
        for name, pixels in pictures.items():
            path = folder / name.split("_")[0] / f"{key}_{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return keys


def make_tiny(path: Path) -> None:
    """Write the tiny parameters into a params.yaml."""
    edit(path, TINY)


def edit(path: Path, changes: Mapping[str, object]) -> None:
    """Change parameters, by their names with dots, in a params.yaml."""
    yaml = YAML()
    params = yaml.load(path)
    for key, value in changes.items():
        *sections, name = key.split(".")
        inner = params
        for section in sections:
            inner = inner[section]
        inner[name] = value
    yaml.dump(params, path)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DemoProject:
    """The working tree's sources in a Git repository of their own, after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("demo") / "project"
    unwanted = shutil.ignore_patterns("__pycache__", "tmp", "cache", "config.local")
    for name in ("pipeline", "segformer", ".dvc"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    make_tiny(folder / "params.yaml")
    project = DemoProject(folder)
    project.run("git", "init", "-q")
    project.run("git", "config", "user.email", "test@example.org")
    project.run("git", "config", "user.name", "test")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "the sources")
    project.dvc("repro")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "everything up to date")
    return project


def test_everything_is_written_and_fresh(project: DemoProject) -> None:
    """One `dvc repro` writes every declared output; a second one has nothing to do."""
    assert "Data and pipelines are up to date" in project.dvc("status")
    assert "mIoU" in (project.folder / "data/ablation/ablation.md").read_text()
    history = project.folder / "data/train/ce-0/history.csv"
    assert ["1", "2"] == [row["step"] for row in csv.DictReader(history.read_text().splitlines())]


def test_one_run_per_arm_and_one_for_the_ablation(project: DemoProject) -> None:
    """MLflow holds ce-0, dice-0 with training and evaluation in one run, and their parent."""
    runs = {run["mlflow.runName"]: run for run in project.runs() if "dvc.exp" not in run}
    assert {"ce-0", "dice-0", "ablation"} == runs.keys()
    assert {"FINISHED"} == {run["status"] for run in runs.values()}
    for name in ("ce-0", "dice-0"):
        assert {"train/loss", "val/miou", "eval/miou"} <= set(runs[name]["metrics"])
        assert runs["ablation"]["id"] == runs[name]["mlflow.parentRunId"]
        assert runs[name]["data.md5"].endswith(".dir")


def test_dvc_tells_metrics_and_plots(project: DemoProject) -> None:
    """The metrics name the protocol; the plots show IoU, frequencies, confusion and loss curves."""
    metrics_by_file = json.loads(project.dvc("metrics", "show", "--json"))[""]["data"]
    metrics = metrics_by_file["data/evaluate/ce-0/metrics.json"]["data"]
    assert "val2/official/64x128/whole/ss/last" == metrics["protocol"]
    project.dvc("plots", "show", "-o", "plots")
    page = (project.folder / "plots" / "index.html").read_text()
    titles = ("IoU per class, ce", "Class frequency", "Training loss, dice", "confusion.png")
    for title in (*titles, "Lift of the strongest attention head", "lift.png", "walls"):
        assert title in page


def test_an_experiment_is_shown_and_made_again(project: DemoProject, tmp_path: Path) -> None:
    """`dvc exp run -S` runs under its name, MLflow's run names it, the workspace stays as it was.

    That run is made again from its id alone, though the folder in which it was trained is gone.
    """
    project = DemoProject(shutil.copytree(project.folder, tmp_path / "project", symlinks=True))
    setting = ["--set-param", "train.steps=3", "--name", "longer"]
    project.dvc("exp", "run", "--temp", *setting, "train@ce-0")
    assert "longer" in project.dvc("exp", "list", "--name-only")
    assert "" == project.run("git", "status", "--porcelain", "params.yaml")
    [run] = [run for run in project.runs() if run.get("dvc.exp") == "longer"]

    assert "same bytes as the run's model" in project.pipeline("reproduce", run["id"][:8])
    again = project.folder / f"reproduced-{run['id'][:8]}" / "data/train/ce-0/history.csv"
    rows = list(csv.DictReader(again.read_text().splitlines()))
    assert ["1", "2", "3"] == [row["step"] for row in rows]


def test_a_queued_experiment_runs_without_downloading(project: DemoProject) -> None:
    """`dvc exp run --queue` and `dvc queue start` end well, without drawing the frames again."""
    project.dvc("exp", "run", "--queue", "-n", "queued", "-S", "train.steps=4", "train@ce-0")
    project.dvc("queue", "start")
    deadline = time.monotonic() + 300
    while "Success" not in (status := project.dvc("queue", "status")):
        assert "Failed" not in status, project.dvc("queue", "logs", "queued")
        assert time.monotonic() < deadline, status
        time.sleep(2)
    assert "queued" in {run.get("dvc.exp") for run in project.runs()}
    assert "Running stage 'download'" not in project.dvc("queue", "logs", "queued")
    project.dvc("queue", "stop")  # DVC's worker does not always end by itself


def test_a_retraining_with_nothing_stale_asks_the_gate(project: DemoProject) -> None:
    """Without a server it ends well, makes no MLflow run, and crowns the workspace's best arm."""
    before = len(project.runs())
    project.pipeline("retrain", "--promote")
    assert before == len(project.runs())
    code = (
        "import mlflow\n"
        "client = mlflow.MlflowClient('sqlite:///mlflow.db')\n"
        "print(client.get_model_version_by_alias('segformer-cityscapes', 'champion').run_id)"
    )
    arms = {}
    for arm in ("ce-0", "dice-0"):
        score = project.folder / "data/evaluate" / arm / "metrics.json"
        run = json.loads((project.folder / "data/train" / arm / "run.json").read_text())
        arms[run["mlflow_run_id"]] = json.loads(score.read_text())["miou"]
    champion = project.run(sys.executable, "-c", code).strip()
    assert max(arms.values()) == arms[champion]


def test_photographs_from_a_folder(project: DemoProject, tmp_path: Path) -> None:
    """A folder of frames of an odd size is trained on and scored; a change in it is taken in."""
    project = DemoProject(shutil.copytree(project.folder, tmp_path / "project", symlinks=True))
    frames = draw_tree(tmp_path / "cityscapes", rows=90, columns=120)
    yaml = YAML()
    params = yaml.load(project.folder / "params.yaml")
    params["evaluate"]["size"] = None
    params["download"] |= {"source": "folder", "folder": str(tmp_path / "cityscapes")}
    yaml.dump(params, project.folder / "params.yaml")
    project.dvc("repro", "evaluate@ce-0")
    table = (project.folder / "data/remap/frames.csv").read_text()
    assert f"{frames[0]},train,avalon,90,120" in table

    for name in ("leftImg8bit", "gtFine_labelIds"):
        kind = name.split("_")[0]
        (tmp_path / "cityscapes" / kind / f"{frames[0]}_{name}.png").unlink()
    assert "Data and pipelines are up to date" in project.dvc("status", "download")
    assert "2 files removed since the download" in project.pipeline("doctor", fails=True)
    project.pipeline("retrain", "remap")
    assert frames[0] not in (project.folder / "data/remap/frames.csv").read_text()


def test_killed_anywhere_it_ends_with_the_same_bytes(project: DemoProject, tmp_path: Path) -> None:
    """`dvc repro`, killed at random moments and once asked to stop, goes on each time.

    Model and history equal those of a run that was never interrupted, MLflow has one run more whose
    records are neither doubled nor missing, and nothing is left in the work folder.
    """
    project = DemoProject(shutil.copytree(project.folder, tmp_path / "project", symlinks=True))
    edit(project.folder / "params.yaml", {"train.steps": 12, "train.save_every": 1})
    project.dvc("repro", "-s", "train@ce-0")
    whole = project.bytes_of("data/train/ce-0")
    before = len(project.runs())

    random = Random(time.time_ns())
    for number, signal_ in enumerate([SIGKILL, SIGKILL, SIGTERM]):
        project.interrupt(signal_, after_step=3 * number + 1, delay=random.uniform(0, 2))
    project.dvc("repro", "-f", "-s", "train@ce-0")
    assert whole == project.bytes_of("data/train/ce-0")
    assert not list((project.folder / ".work/checkpoints").iterdir())
    runs = project.runs()
    assert before + 1 == len(runs)
    code = (
        "import mlflow\n"
        "client = mlflow.MlflowClient('sqlite:///mlflow.db')\n"
        f"points = client.get_metric_history({runs[0]['id']!r}, 'train/loss')\n"
        "print([point.step for point in points])"
    )
    assert str([*range(1, 13)]) == project.run(sys.executable, "-c", code).strip()


def test_results_and_doctor(project: DemoProject) -> None:
    """Both commands end well on a finished project."""
    assert "Where to look" in project.pipeline("results")
    assert "FAIL" not in project.pipeline("doctor")


def test_a_run_is_made_again_byte_by_byte(project: DemoProject, tmp_path: Path) -> None:
    """`reproduce` brings a run's commit, changes, parameters and data, and trains the same model.

    Code and parameters of the project have moved on since, and what it found in DVC's cache it did
    not make again.
    """
    project = DemoProject(shutil.copytree(project.folder, tmp_path / "project", symlinks=True))
    params = project.folder / "params.yaml"
    settings, code = params.read_text(), project.folder / "segformer/losses/__init__.py"
    code.write_text(code.read_text() + "\n# A change that nobody committed.\n")
    edit(params, {"train.steps": 3})
    project.dvc("repro", "-s", "train@ce-0")
    whole = project.bytes_of("data/train/ce-0")
    run_id = json.loads((project.folder / "data/train/ce-0/run.json").read_text())["mlflow_run_id"]
    params.write_text(settings)
    project.run("git", "checkout", "-q", "segformer/losses/__init__.py")

    output = project.pipeline("reproduce", run_id, "--folder", "again")
    assert "same bytes as the run's model" in output
    assert "run again" not in output
    assert whole == project.bytes_of("again/data/train/ce-0")
    assert "nobody committed" in (project.folder / "again/segformer/losses/__init__.py").read_text()
    assert [run_id] == [run["reproduces"] for run in project.runs() if "reproduces" in run]
