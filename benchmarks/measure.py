"""How the benchmarks measure: medians of turns taken in one run, peaks in processes of their own.

Turns, so that a noisy machine is noisy for all that is compared; own processes, because a process
cannot forget the peak of its memory.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch

Item = TypeVar("Item")
Timestamp = float | torch.cuda.Event
"""A moment: seconds of the clock, or a place in a GPU's work."""


def median_seconds(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
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


def run_benchmark(benchmark: str, *arguments: str) -> float:
    """The number that a benchmark prints, run in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def cpu_peak_mib(function: Callable[[], object]) -> float:
    """MiB that this process needs at its peak beyond what it has now; once per process."""
    before = _kibibytes("VmRSS")
    function()
    return (_kibibytes("VmHWM") - before) / 1024


def gpu_peak_mib(function: Callable[[], object]) -> float:
    """MiB that a function needs at its peak on the GPU beyond what is there already."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


class WaitTimer:
    """How long a device waits for what it works on, measured where that is handed over."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[Timestamp, Timestamp]] = []

    def wrap(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the same items."""
        while True:
            # A GPU passes the first mark when all work before is done, and the second when it has
            # what the item waits for.
            before = self._mark()
            item = next(items)
            self._marks.append((before, self._mark()))
            yield item

    def seconds(self) -> float:
        """In all; the device must have done its work."""
        return sum(_elapsed_seconds(before, after) for before, after in self._marks)

    def _mark(self) -> Timestamp:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _elapsed_seconds(before: Timestamp, after: Timestamp) -> float:
    if isinstance(before, torch.cuda.Event) and isinstance(after, torch.cuda.Event):
        return float(before.elapsed_time(after)) / 1e3
    assert isinstance(before, float)
    assert isinstance(after, float)
    return after - before


def _kibibytes(field: str) -> int:
    """Memory of this process as Linux counts it: VmRSS now, VmHWM at its peak."""
    # Not resource.getrusage: its peak starts at that of the process which started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])
