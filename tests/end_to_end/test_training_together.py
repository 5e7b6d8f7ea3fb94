"""The train command in two processes: the loss curve of one, one message, and resumption."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from segformer.data.packed_frames import create
from tests.end_to_end.test_demo import SHIPPED, edit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SINGLE = (sys.executable, "-m")
DISTRIBUTED = (sys.executable, "-m", "pipeline.torchrun", "--nproc-per-node", "2", "-m")
FILES = ("model.safetensors", "history.csv")
TINY = {
    "train.steps": 8,
    "train.batch_size": 4,
    "train.warmup_steps": 1,
    "train.drop_path": 0.0,  # each process drops other paths
    "train.dropout": 0.0,
    "train.augment.crop": [32, 64],
    "train.report_every": 1,
    "train.validate_every": 4,
    "train.save_every": 1,
}


class Workspace:
    """A folder with packed frames and parameters for the train command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        random = np.random.default_rng(0)
        for split, n in (("train", 7), ("val", 5)):
            names = [f"{split}/{i}" for i in range(n)]
            with create(folder / "pack" / split, names, (32, 64)) as (images, labels):
                images[:] = random.integers(0, 256, images.shape)
                labels[:] = random.choice(np.array([0, 1, 2, 255]), labels.shape)
        for name in ("frequency", "weights"):
            (folder / name).mkdir()
        (folder / "params.yaml").write_text(SHIPPED.read_text())
        edit(folder / "params.yaml", TINY)
        self.environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }

    def start(self, launch: tuple[str, ...], out: str) -> "subprocess.Popen[str]":
        """Start or resume a training."""
        options = [f"--{name}={name}" for name in ("pack", "frequency", "weights", "work")]
        return subprocess.Popen(
            [*launch, "pipeline", "train", *options, f"--out={out}", "--loss=dice", "--seed=0"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def train(self, launch: tuple[str, ...], out: str) -> dict[str, bytes]:
        """Train to the end; return the files it wrote."""
        process = self.start(launch, out)
        output, _ = process.communicate(timeout=300)
        assert 0 == process.returncode, output
        return {name: (self.folder / out / name).read_bytes() for name in FILES}

    def workers(self, launcher: int) -> list[int]:
        """Return the processes that torchrun has started."""
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
        return [int(child) for child in children.split()]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One folder for all tests."""
    return Workspace(tmp_path_factory.mktemp("together"))


def parse_curve(history: bytes) -> list[tuple[float, ...]]:
    """Return loss and validation mIoU (0 if none) of every step."""
    rows = csv.DictReader(history.decode().splitlines())
    return [(float(row["loss"]), float(row["val_miou"] or 0)) for row in rows]


def test_two_processes_equal_one_and_resume_after_a_kill(work: Workspace) -> None:
    """The loss curve and the validation are those of one process, in one MLflow run.

    If one process is killed, the other ends within seconds, with one message; the same command
    then resumes and ends with the bytes of an uninterrupted training.
    """
    single = work.train(SINGLE, "single")
    whole = work.train(DISTRIBUTED, "whole")
    np.testing.assert_allclose(
        parse_curve(single["history.csv"]), parse_curve(whole["history.csv"]), rtol=1e-3
    )
    runs = MlflowClient(work.environment["MLFLOW_TRACKING_URI"]).search_runs(["1"])
    assert 2 == len(runs)

    process = work.start(DISTRIBUTED, "killed")
    deadline = time.monotonic() + 120
    while not list((work.folder / "work").glob("*/step-00000003-*.pt")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(work.workers(process.pid)[-1], signal.SIGKILL)
    killed = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - killed < 15
    assert 0 != process.returncode
    assert 1 == output.count("killed"), output
    assert "Traceback" not in output
    assert whole == work.train(DISTRIBUTED, "killed")
