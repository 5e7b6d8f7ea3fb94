"""What a person sees while a stage works: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from pipeline.download.byte_progress import ProgressCallback

if TYPE_CHECKING:
    from segformer.training.state import StepRecord as TrainingProgress

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def show_progress(title: str, unit: str) -> Iterator[ProgressCallback]:
    """Show how far a piece of work is; give the function that moves it on.

    Args:
        title: what is being done, `train ce-0`.
        unit: what is counted, `frames` or `steps`.
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
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, words="")

        def advance(done: int, total: int, words: str = "") -> None:
            bar.update(task, completed=done, total=total, words=words)

        yield advance


def make_training_reporter(advance: ProgressCallback) -> "Callable[[TrainingProgress], None]":
    """Show the records of a training: loss, images per second, and mIoU where it was validated."""

    def report(progress: "TrainingProgress") -> None:
        words = f"loss {progress.loss:.3f}, {progress.images_per_second:.1f} images/s"
        if progress.val_miou is not None:
            words += f", val mIoU {progress.val_miou:.1%}"
        advance(progress.step, progress.steps, words)

    return report


def combine_reporters(
    first: "Callable[[TrainingProgress], None]", second: "Callable[[TrainingProgress], None]"
) -> "Callable[[TrainingProgress], None]":
    """Hand each record of a training to two takers."""

    def report(progress: "TrainingProgress") -> None:
        first(progress)
        second(progress)

    return report


def _make_line_reporter(console: Console, title: str, unit: str) -> ProgressCallback:
    start = last = time.monotonic()

    def advance(done: int, total: int, words: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        left = (now - start) / max(done, 1) * (total - done)
        parts = [
            f"{title}: {done}/{total} {unit}",
            words,
            f"{_format_duration(left)} left" if left else "",
        ]
        line = ", ".join(part for part in parts if part)
        # Off a terminal rich takes 80 columns for the width, and would break the line there.
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return advance


def _format_duration(seconds: float) -> str:
    """`59 s`, `1:05 min`, `2:55 h`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    unit = "min" if seconds < 3599.5 else "h"
    whole, rest = divmod(round(seconds if unit == "min" else seconds / 60), 60)
    return f"{whole}:{rest:02} {unit}"
