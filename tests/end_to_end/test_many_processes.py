"""Two real processes that torchrun starts do what one does, and end together with one message."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segformer.data.packed_frames import create
from segformer.losses import LOSSES
from tests.end_to_end.distributed_worker import ERROR_MESSAGE, STOP_STEP, collect_results

ROOT = Path(__file__).parent.parent.parent
LAUNCH = (sys.executable, "-m", "pipeline.torchrun", "--nproc-per-node", "2", "-m")


@dataclass(frozen=True)
class Job:
    """How torchrun ended: its exit code and both streams; and how long that took, in seconds."""

    code: int
    said: str
    seconds: float


def run(what: str, folder: Path) -> Job:
    """Run tests/end_to_end/distributed_worker.py in two processes."""
    started = time.monotonic()
    job = subprocess.run(
        [*LAUNCH, "tests.end_to_end.distributed_worker", what, str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return Job(job.returncode, job.stdout, time.monotonic() - started)


@dataclass(frozen=True)
class Compared:
    """What one process finds, what two find, and how the two ended."""

    one: dict[str, Any]
    two: list[dict[str, Any]]
    job: Job


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """One job for all claims: two processes take seconds to start."""
    folder = tmp_path_factory.mktemp("job")
    rng = np.random.default_rng(0)
    with create(folder / "frames", list("abcde"), (10, 12)) as (images, labels):
        images[:] = rng.integers(0, 256, images.shape)
        labels[:] = rng.choice(np.array([0, 1, 2, 3, 255]), labels.shape)
    job = run("findings", folder)
    assert all((folder / f"{rank}.pt").exists() for rank in range(2)), job.said
    two = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return Compared(collect_results(folder), two, job)


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_train_as_one(compared: Compared, name: str) -> None:
    """Half a batch each: value, gradients and BatchNorm's statistics are those of the whole."""
    for found in compared.two:
        torch.testing.assert_close(
            found["losses"][name], compared.one["losses"][name], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_stay_alike(compared: Compared, name: str) -> None:
    """Value, gradients and statistics are the same bits in both."""
    first, second = (found["losses"][name] for found in compared.two)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("index", range(2), ids=["three batches", "a batch for one only"])
def test_two_processes_evaluate_as_one(compared: Compared, index: int) -> None:
    """The confusion is the same count for count, also where one process has nothing to do."""
    expected = compared.one["confusions"][index]
    assert 0 < expected.sum()
    for found in compared.two:
        torch.testing.assert_close(expected, found["confusions"][index], rtol=0, atol=0)


def test_the_first_process_is_one_only(compared: Compared) -> None:
    """Files are written once: one of two is the first, and alone one is."""
    assert [0, 1] == [found["rank"] for found in compared.two]
    assert [True, False] == [found["is_first"] for found in compared.two]
    assert compared.one["is_first"]


def test_tensors_are_gathered_in_order(compared: Compared) -> None:
    """Each process gets everyone's, by rank."""
    for found in compared.two:
        assert [[0, 7], [1, 7]] == found["gathered"].tolist()
    assert [[0, 7]] == compared.one["gathered"].tolist()


def test_all_know_what_the_first_knows(compared: Compared) -> None:
    """For example which tracking run this is."""
    assert [{"run": 0}] * 3 == [found["from_first"] for found in (compared.one, *compared.two)]


def test_all_stop_after_the_same_step(compared: Compared) -> None:
    """One of them wants to; both leave the loop there and then."""
    assert [STOP_STEP] * 3 == [found["stops_after"] for found in (compared.one, *compared.two)]


def test_a_mistake_is_said_once(compared: Compared) -> None:
    """One process fails, the other waits for it: one message, no traceback, exit code 1."""
    assert f"error: {ERROR_MESSAGE}\n" == compared.job.said
    assert 1 == compared.job.code


def test_a_killed_process_ends_the_other(tmp_path: Path) -> None:
    """Within seconds, with one message that says what to do, and the exit code of SIGKILL."""
    job = run("killed", tmp_path)
    assert 1 == job.said.count("\n")
    # The other process says it or, if that was ended first, torchrun.
    assert re.match("error: (one of 2 processes|process 1) was killed", job.said)
    assert "run the same command to resume from the last saved state" in job.said
    assert 128 + 9 == job.code
    assert 60 > job.seconds  # most of it is the start; a lost process would be waited for 30 min
