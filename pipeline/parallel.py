"""One function over many jobs, on all cores, with the results in the jobs' order."""

import math
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_TRIAL_SECONDS = 0.3
"""Seconds of work done here before it is guessed how long the rest would take."""
_MIN_SECONDS_FOR_POOL = 3.0
"""Seconds of work left from which processes are started: that takes about one second."""
_PENDING_PER_PROCESS = 4
"""Results per process that may wait for the one before them: what bounds the memory."""

_worker_function: Callable[[Any], Any] | None = None  # of a worker process, which has but one


@contextmanager
def ordered_map(
    function: Callable[[Job], Result], jobs: Sequence[Job], processes: int | None = None
) -> Iterator[Iterator[Result]]:
    """Give the results of all jobs in their order; on leaving, the processes end.

    Args:
        function: what each job is handed to. Each process gets one copy of it, by pickling, and
            imports what its module imports: the less, the sooner it starts.
        jobs: what is worked on; small, since each travels to a process.
        processes: how many work. None: as many as there are cores, but none is started for work
            that takes this process a few seconds.

    Raises:
        ValueError: if a process was killed; and whatever `function` raises.
    """
    with ExitStack() as pools:
        yield _iterate_results(function, jobs, processes, pools)


def _iterate_results(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    processes: int | None,
    pools: ExitStack,
) -> Iterator[Result]:
    number = processes or cpu_count()
    done, spent = 0, 0.0
    if processes is None or number == 1:
        while done < len(jobs) and (number == 1 or not _is_pool_worthwhile(done, spent, len(jobs))):
            start = time.perf_counter()
            result = function(jobs[done])
            spent += time.perf_counter() - start
            done += 1
            yield result
    if done < len(jobs):
        pool = pools.enter_context(_start_pool(function, min(number, len(jobs) - done)))
        yield from _map_bounded(pool, jobs[done:], _PENDING_PER_PROCESS * number)


def _is_pool_worthwhile(done: int, spent: float, total: int) -> bool:
    return spent > _TRIAL_SECONDS and spent / done * (total - done) > _MIN_SECONDS_FOR_POOL


def _map_bounded(pool: ProcessPoolExecutor, jobs: Sequence[Any], max_pending: int) -> Iterator[Any]:
    """Results in order, with at most so many jobs under way."""
    waiting: deque[Future[Any]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(_run_job, job))
            if len(waiting) == max_pending:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise ValueError(
            "a process that worked on this could not start, or was killed, perhaps for want of"
            " memory: see what it said above, free some memory, and repeat"
        ) from None


@contextmanager
def _start_pool(function: Callable[[Job], Result], number: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, since a forked copy of a process that runs threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, initializer=_init_worker, initargs=(function,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _init_worker(function: Callable[[Any], Any]) -> None:
    global _function
    _worker_function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches all; our parent answers it
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Without this, a worker whose parent was killed waits for its next job for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_job(job: Any) -> Any:
    assert _worker_function is not None
    return _worker_function(job)


def cpu_count(root: Path = Path("/")) -> int:
    """As many as this process may run on, but no more than its control groups pay for.

    Args:
        root: where `proc` and `sys` are.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas(root))]))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Processors' worth of time that each control group around this process is given at most."""
    for folder in _cgroup_folders(root):
        # Version 2 has one file, version 1 two; "max" and -1 are no limit.
        text = _read_text(folder / "cpu.max") or " ".join(
            _read_text(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period")
        )
        match text.split():
            case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
                yield int(quota) / int(period)


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """Folders of the control groups that decide on processors, the process's own and those above.

    `/proc/self/cgroup` has a line `number:controllers:path` for each hierarchy, with no controllers
    in version 2 (cgroups(7)).
    """
    for line in _read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        own = PurePosixPath(path.lstrip("/"))
        # In a container the path may be the host's; then it is not there, but the top is.
        yield from (top / group for group in (own, *own.parents))


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
