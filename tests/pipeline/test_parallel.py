import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.parallel import ordered_map


def slow_for_even(job: int) -> tuple[int, int]:
    """The job and who did it; even ones take longer, so that the odd ones overtake them."""
    time.sleep(0.03 if job % 2 == 0 else 0)
    return job, os.getpid()


def fail_at_three(job: int) -> int:
    """One of the jobs cannot be done."""
    if job == 3:
        raise ValueError("three is no good")
    return job


def die(job: int) -> int:
    """What the kernel does to a process for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return job


def note_and_wait(folder: Path, job: int) -> None:
    """Leave word of who works, and work on."""
    (folder / str(os.getpid())).touch()
    time.sleep(60)


def wait_until(holds: Callable[[], bool]) -> None:
    """Give it ten seconds to come true."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    """Whether there is such a process, that is not just waiting to be buried."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_results_come_in_order_from_several_processes() -> None:
    """A result that is ready early waits for its turn."""
    with ordered_map(slow_for_even, range(12), processes=2) as results:
        jobs, workers = zip(*results, strict=True)
    assert tuple(range(12)) == jobs
    assert 2 == len(set(workers))
    assert os.getpid() not in workers


def test_little_work_is_done_here() -> None:
    """No process is started for what takes a moment, nor for nothing."""
    with ordered_map(slow_for_even, range(4)) as results:
        assert {os.getpid()} == {worker for _, worker in results}
    with ordered_map(slow_for_even, []) as results:
        assert [] == list(results)


def test_much_work_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it shows that the rest takes long, processes do it, and nothing is done twice."""
    monkeypatch.setattr("pipeline.parallel._TRIAL_SECONDS", 0.01)
    monkeypatch.setattr("pipeline.parallel._MIN_SECONDS_FOR_POOL", 0.1)
    monkeypatch.setattr("pipeline.parallel.cpu_count", lambda: 2)
    with ordered_map(slow_for_even, range(30)) as results:
        jobs, workers = zip(*results, strict=True)
    assert tuple(range(30)) == jobs
    assert os.getpid() == workers[0]
    assert os.getpid() != workers[-1]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_the_function_s_own(processes: int) -> None:
    """What a job raises reaches the caller, after the results before it."""
    with ordered_map(fail_at_three, range(9), processes) as results:
        assert [0, 1, 2] == [next(results) for _ in range(3)]
        with pytest.raises(ValueError, match="three is no good"):
            next(results)


def test_a_killed_process_is_told() -> None:
    """A worker that the kernel kills ends it in one message."""
    with (
        ordered_map(die, range(4), processes=2) as results,
        pytest.raises(ValueError, match="was killed, perhaps for want of"),
    ):
        list(results)


def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    """Where the parent is killed outright, its workers end by themselves."""
    program = (
        "import sys; from pathlib import Path; from functools import partial\n"
        "from pipeline.parallel import ordered_map\n"
        "from tests.pipeline.test_parallel import note_and_wait\n"
        "with ordered_map(partial(note_and_wait, Path(sys.argv[1])), range(2), 2) as results:\n"
        "    list(results)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(file.name) for file in tmp_path.iterdir()]
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(is_alive(worker) for worker in workers))
