"""Shows the progress of a stage: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from pipeline.download.byte_progress import ProgressCallback

if TYPE_CHECKING:
    from segformer.training.state import StepRecord

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def show_progress(title: str, unit: str) -> Iterator[ProgressCallback]:
    """Show progress within the block; yield the function that reports it.

    Args:
        title: what is being done, such as `train ce-0`.
        unit: what is counted, such as `frames` or `steps`.

    Yields:
        A function of the number of units done, their total (0: unknown), and optional details.
    """
    console = Console()
    if not console.is_terminal:
        yield _make_line_reporter(console, title, unit)
        return
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    ]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, words="")

        def advance(done: int, total: int, words: str = "") -> None:
            bar.update(task, completed=done, total=total or None, words=words)

        yield advance


def make_training_reporter(advance: ProgressCallback) -> "Callable[[StepRecord], None]":
    """Return a function that shows step records: loss, images per second, and mIoU if validated."""

    def report(record: "StepRecord") -> None:
        details = f"loss {record.loss:.3f}, {record.images_per_second:.1f} images/s"
        if record.val_miou is not None:
            details += f", val mIoU {record.val_miou:.1%}"
        advance(record.step, record.steps, details)

    return report


def combine_reporters(
    first: "Callable[[StepRecord], None]", second: "Callable[[StepRecord], None]"
) -> "Callable[[StepRecord], None]":
    """Return a function that passes each step record to two functions."""

    def report(record: "StepRecord") -> None:
        first(record)
        second(record)

    return report


def _make_line_reporter(console: Console, title: str, unit: str) -> ProgressCallback:
    start = last = time.monotonic()

    def advance(done: int, total: int, words: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if (done < total or not total) and now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        remaining = (now - start) / max(done, 1) * max(total - done, 0)
        parts = [
            f"{title}: {done}/{total} {unit}" if total else f"{title}: {done} {unit}",
            words,
            f"{_format_duration(remaining)} left" if remaining else "",
        ]
        line = ", ".join(part for part in parts if part)
        # Off a terminal rich assumes a width of 80 columns and would break the line.
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return advance


def _format_duration(seconds: float) -> str:
    """Format a duration as `59 s`, `1:05 min` or `2:55 h`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    unit = "min" if seconds < 3599.5 else "h"
    whole, rest = divmod(round(seconds if unit == "min" else seconds / 60), 60)
    return f"{whole}:{rest:02} {unit}"
