"""Two real processes of torchrun give the results of one, and end together with one message."""

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
    """A finished torchrun: exit code, output of both streams, and seconds."""

    code: int
    output: str
    seconds: float


def run_worker(mode: str, folder: Path) -> Job:
    """Run tests/end_to_end/distributed_worker.py in two processes."""
    started = time.monotonic()
    job = subprocess.run(
        [*LAUNCH, "tests.end_to_end.distributed_worker", mode, str(folder)],
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
class ProcessComparison:
    """The results of one process and of two, and how the two ended."""

    single: dict[str, Any]
    pair: list[dict[str, Any]]
    job: Job


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> ProcessComparison:
    """One job for all tests: two processes take seconds to start."""
    folder = tmp_path_factory.mktemp("job")
    rng = np.random.default_rng(0)
    with create(folder / "frames", list("abcde"), (10, 12)) as (images, labels):
        images[:] = rng.integers(0, 256, images.shape)
        labels[:] = rng.choice(np.array([0, 1, 2, 3, 255]), labels.shape)
    job = run_worker("results", folder)
    assert all((folder / f"{rank}.pt").exists() for rank in range(2)), job.output
    pair = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return ProcessComparison(collect_results(folder), pair, job)


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_train_as_one(comparison: ProcessComparison, name: str) -> None:
    """With half a batch each, value, gradients and BatchNorm statistics are those of the whole."""
    for results in comparison.pair:
        torch.testing.assert_close(
            results["losses"][name], comparison.single["losses"][name], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_have_equal_results(comparison: ProcessComparison, name: str) -> None:
    """Value, gradients and statistics are equal bit for bit."""
    first, second = (results["losses"][name] for results in comparison.pair)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("index", range(2), ids=["three batches", "a batch for one process"])
def test_two_processes_evaluate_as_one(comparison: ProcessComparison, index: int) -> None:
    """The confusion matrix is the same, also if one process has no batch."""
    expected = comparison.single["confusions"][index]
    assert 0 < expected.sum()
    for results in comparison.pair:
        torch.testing.assert_close(expected, results["confusions"][index], rtol=0, atol=0)


def test_one_process_is_the_main_one(comparison: ProcessComparison) -> None:
    """Files are written once: rank 0 of two is the main process, and so is a single one."""
    assert [0, 1] == [results["rank"] for results in comparison.pair]
    assert [True, False] == [results["is_main"] for results in comparison.pair]
    assert comparison.single["is_main"]


def test_tensors_are_gathered_in_order(comparison: ProcessComparison) -> None:
    """Each process gets the tensors of all, by rank."""
    for results in comparison.pair:
        assert [[0, 7], [1, 7]] == results["gathered"].tolist()
    assert [[0, 7]] == comparison.single["gathered"].tolist()


def test_values_are_broadcast_from_rank_0(comparison: ProcessComparison) -> None:
    """For example the id of the tracking run."""
    assert [{"run": 0}] * 3 == [
        results["broadcast"] for results in (comparison.single, *comparison.pair)
    ]


def test_all_processes_stop_after_the_same_step(comparison: ProcessComparison) -> None:
    """If one requests to stop, both leave the loop at that step."""
    assert [STOP_STEP] * 3 == [
        results["stop_step"] for results in (comparison.single, *comparison.pair)
    ]


def test_error_is_printed_once(comparison: ProcessComparison) -> None:
    """One process fails while the other waits: one message, no traceback, exit code 1."""
    assert f"error: {ERROR_MESSAGE}\n" == comparison.job.output
    assert 1 == comparison.job.code


def test_killed_process_ends_the_other(tmp_path: Path) -> None:
    """Within seconds, with one message with the remedy, and the exit code of SIGKILL."""
    job = run_worker("killed", tmp_path)
    assert 1 == job.output.count("\n")
    # Printed by the other process or, if that was ended first, by torchrun.
    assert re.match("error: (one of 2 processes|process 1) was killed", job.output)
    assert "run the same command to resume from the last saved state" in job.output
    assert 128 + 9 == job.code
    assert 60 > job.seconds  # mostly the start; PyTorch's own timeout for a lost process is 30 min
