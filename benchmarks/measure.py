"""How the benchmarks measure: medians of turns taken in one run, peaks in processes of their own.

Turns, so that a noisy machine is noisy for all that is compared; own processes, because a process
cannot forget the peak of its memory.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def medians(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each function, called in turns; the first turn only warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU works on after the call has returned
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def printed_by(benchmark: str, *arguments: str) -> float:
    """The number that a benchmark prints, run in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def peak_on_cpu(function: Callable[[], object]) -> float:
    """MiB that this process needs at its peak beyond what it has now; once per process."""
    before = _kibibytes("VmRSS")
    function()
    return (_kibibytes("VmHWM") - before) / 1024


def peak_on_gpu(function: Callable[[], object]) -> float:
    """MiB that a function needs at its peak on the GPU beyond what is there already."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _kibibytes(what: str) -> int:
    """Memory of this process as Linux counts it: VmRSS now, VmHWM at its peak."""
    # Not resource.getrusage: its peak starts at that of the process which started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1])
