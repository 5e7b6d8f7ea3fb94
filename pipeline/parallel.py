"""Maps a function over many jobs on all cores, with the results in the order of the jobs."""

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
"""Seconds of work in this process, from which the time of the rest is estimated."""
_MIN_SECONDS_FOR_POOL = 3.0
"""Seconds of work left for which processes are started; starting them takes about one second."""
_PENDING_PER_PROCESS = 4
"""Pending results per process; bounds the memory."""

_worker_function: Callable[[Any], Any] | None = None  # set in worker processes


@contextmanager
def ordered_map(
    function: Callable[[Job], Result], jobs: Sequence[Job], processes: int | None = None
) -> Iterator[Iterator[Result]]:
    """Yield an iterator over the results of all jobs, in order; on exit, the processes end.

    Args:
        function: called with each job. Each process gets one pickled copy of it and imports its
            module: the fewer imports, the faster it starts.
        jobs: the arguments; small, since each is pickled for its process.
        processes: number of processes. None: one per core, but none is started for work that takes
            this process a few seconds.

    Raises:
        ValueError: if a process was killed; also all that `function` raises.
    """
    with ExitStack() as pools:
        yield _iterate_results(function, jobs, processes, pools)


def _iterate_results(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    processes: int | None,
    pools: ExitStack,
) -> Iterator[Result]:
    num_processes = processes or cpu_count()
    num_done, spent = 0, 0.0
    if processes is None or num_processes == 1:
        while num_done < len(jobs) and (
            num_processes == 1 or not _is_pool_worthwhile(num_done, spent, len(jobs))
        ):
            start = time.perf_counter()
            result = function(jobs[num_done])
            spent += time.perf_counter() - start
            num_done += 1
            yield result
    if num_done < len(jobs):
        remaining = jobs[num_done:]
        pool = pools.enter_context(_start_pool(function, min(num_processes, len(remaining))))
        yield from _map_bounded(pool, remaining, _PENDING_PER_PROCESS * num_processes)


def _is_pool_worthwhile(num_done: int, spent: float, total: int) -> bool:
    return spent > _TRIAL_SECONDS and spent / num_done * (total - num_done) > _MIN_SECONDS_FOR_POOL


def _map_bounded(pool: ProcessPoolExecutor, jobs: Sequence[Any], max_pending: int) -> Iterator[Any]:
    """Yield results in order, with at most `max_pending` jobs submitted."""
    pending: deque[Future[Any]] = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(_call_worker_function, job))
            if len(pending) == max_pending:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise ValueError(
            "a worker process could not start or was killed (out of memory?):"
            " read its output above, free some memory, and repeat"
        ) from None


@contextmanager
def _start_pool(
    function: Callable[[Job], Result], num_processes: int
) -> Iterator[ProcessPoolExecutor]:
    # Spawned, since a forked copy of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        num_processes, context, initializer=_init_worker, initargs=(function,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _init_worker(function: Callable[[Any], Any]) -> None:
    global _worker_function
    _worker_function = function
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # ctrl-C reaches all processes; the parent handles it
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent was killed; a worker would wait for its next job forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call_worker_function(job: Any) -> Any:
    assert _worker_function is not None
    return _worker_function(job)


def cpu_count(root: Path = Path("/")) -> int:
    """Count the CPUs that this process may use, within the quotas of its control groups.

    Args:
        root: the folder of `proc` and `sys`.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas(root))]))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """CPU quotas of the control groups around this process, in CPUs."""
    for folder in _cgroup_folders(root):
        # Version 2 has one file, version 1 two; "max" and -1 are no limit.
        text = _read_text(folder / "cpu.max") or " ".join(
            _read_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")
        )
        match text.split():
            case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
                yield int(quota) / int(period)


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """Folders of the control groups that limit CPUs: the process's own and those above it.

    `/proc/self/cgroup` has a line `number:controllers:path` for each hierarchy, with no controllers
    in version 2 (cgroups(7)).
    """
    for line in _read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        own = PurePosixPath(path.lstrip("/"))
        # In a container the path may be the host's; only the top folder exists then.
        yield from (top / group for group in (own, *own.parents))


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
