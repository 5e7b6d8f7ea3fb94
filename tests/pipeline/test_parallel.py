"""pipeline.parallel: ordered results, worker processes, errors, and CPU quotas."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.parallel import cpu_count, ordered_map


def slow_for_even(job: int) -> tuple[int, int]:
    """Return the job and the worker's id; even jobs take longer, so that odd ones overtake."""
    time.sleep(0.03 if job % 2 == 0 else 0)
    return job, os.getpid()


def fail_at_three(job: int) -> int:
    """Raise an error at one of the jobs."""
    if job == 3:
        raise ValueError("job 3 failed")
    return job


def kill_worker(job: int) -> int:
    """Kill the worker, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return job


def record_pid_and_wait(folder: Path, job: int) -> None:
    """Write a file named after the worker's id, and keep running."""
    (folder / str(os.getpid())).touch()
    time.sleep(60)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait at most ten seconds for a condition."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_results_come_in_order_from_several_processes() -> None:
    """A result that is ready early is returned after those of the jobs before it."""
    with ordered_map(slow_for_even, range(12), processes=2) as results:
        jobs, workers = zip(*results, strict=True)
    assert tuple(range(12)) == jobs
    assert 2 == len(set(workers))
    assert os.getpid() not in workers


def test_short_work_starts_no_process() -> None:
    """No process is started for work of a moment, nor for no jobs."""
    with ordered_map(slow_for_even, range(4)) as results:
        assert {os.getpid()} == {worker for _, worker in results}
    with ordered_map(slow_for_even, []) as results:
        assert [] == list(results)


def test_long_work_moves_to_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the rest is estimated to take long, processes do it, and no job is done twice."""
    monkeypatch.setattr("pipeline.parallel._TRIAL_SECONDS", 0.01)
    monkeypatch.setattr("pipeline.parallel._MIN_SECONDS_FOR_POOL", 0.1)
    monkeypatch.setattr("pipeline.parallel.cpu_count", lambda: 2)
    with ordered_map(slow_for_even, range(30)) as results:
        jobs, workers = zip(*results, strict=True)
    assert tuple(range(30)) == jobs
    assert os.getpid() == workers[0]
    assert os.getpid() != workers[-1]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_a_job_is_raised(processes: int) -> None:
    """The error of a job reaches the caller, after the results before it."""
    with ordered_map(fail_at_three, range(9), processes) as results:
        assert [0, 1, 2] == [next(results) for _ in range(3)]
        with pytest.raises(ValueError, match="job 3 failed"):
            next(results)


def test_a_killed_worker_is_one_error() -> None:
    """A worker that the kernel kills is one ValueError."""
    with (
        ordered_map(kill_worker, range(4), processes=2) as results,
        pytest.raises(ValueError, match=r"was killed \(out of memory\?\)"),
    ):
        list(results)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """When the parent is killed, its workers end by themselves."""
    program = (
        "import sys; from pathlib import Path; from functools import partial\n"
        "from pipeline.parallel import ordered_map\n"
        "from tests.pipeline.test_parallel import record_pid_and_wait\n"
        "function = partial(record_pid_and_wait, Path(sys.argv[1]))\n"
        "with ordered_map(function, range(2), 2) as results:\n"
        "    list(results)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(file.name) for file in tmp_path.iterdir()]
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(is_alive(worker) for worker in workers))


NUM_CPUS = 64


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(NUM_CPUS)), raising=False)


def make_root(folder: Path, **files: str) -> Path:
    """Write files below a folder that stands for `/`; double underscores stand for slashes."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("cpu_max", "cpu.max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", NUM_CPUS)],
)
def test_the_quota_of_a_container(tmp_path: Path, limit: str, expected: int) -> None:
    """Version 2: a quota is rounded up to whole CPUs; "max" is no limit."""
    container = make_root(tmp_path, proc__self__cgroup="0::/", sys__fs__cgroup__cpu_max=limit)
    assert expected == cpu_count(container)


def test_the_lowest_quota_of_the_enclosing_groups(tmp_path: Path) -> None:
    """A group without a limit of its own is bound by the one that it lies in."""
    machine = make_root(
        tmp_path,
        proc__self__cgroup="0::/slice/service",
        sys__fs__cgroup__slice__service__cpu_max="max 100000",
        sys__fs__cgroup__slice__cpu_max="300000 100000",
    )
    assert 3 == cpu_count(machine)


@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("-1", NUM_CPUS)])
def test_the_quota_of_version_1(tmp_path: Path, quota: str, expected: int) -> None:
    """Quota and period are separate files, and the path is the host's."""
    container = make_root(
        tmp_path, proc__self__cgroup="3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n1:pids:/"
    )
    folder = container / "sys/fs/cgroup/cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert expected == cpu_count(container)


def test_no_quota_without_control_groups(tmp_path: Path) -> None:
    """Without `proc` and `sys`, as on macOS, all CPUs of the machine count."""
    assert NUM_CPUS == cpu_count(tmp_path)
