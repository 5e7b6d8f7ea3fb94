"""Measurements for the benchmarks: median times in turns, and peak memory in separate processes.

Turns, so that noise of the machine affects all candidates alike; separate processes, because the
peak memory of a process cannot be reset.
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
"""A point in time: seconds of the clock, or an event in a GPU's stream."""


def median_seconds(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median seconds of each function, called in turns after a warm-up."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, seconds in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU is still working when the call returns
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds[1:]) for seconds in times]


def run_benchmark(benchmark: str, *arguments: str) -> float:
    """Run a benchmark in a separate process; return the number it prints."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def cpu_peak_mib(function: Callable[[], object]) -> float:
    """Return the peak memory of a function beyond the current, in MiB; once per process."""
    before = _kibibytes("VmRSS")
    function()
    return (_kibibytes("VmHWM") - before) / 1024


def gpu_peak_mib(function: Callable[[], object]) -> float:
    """Return the peak GPU memory of a function beyond the current, in MiB."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


class WaitTimer:
    """Measures how long a device waits for the items of an iterator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[Timestamp, Timestamp]] = []

    def wrap(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the same items."""
        while True:
            # A GPU reaches the first mark when all earlier work is done, and the second when the
            # item is ready.
            before = self._mark()
            item = next(items)
            self._marks.append((before, self._mark()))
            yield item

    def seconds(self) -> float:
        """Return the total seconds; the device must have finished its work."""
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
    """Return the memory of this process as reported by Linux: VmRSS now, VmHWM at its peak."""
    # Not resource.getrusage: its peak includes that of the parent process.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])
