"""Says in a person's words what ended a training: a stop, too little memory, a loss gone wrong."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from pipeline.params.train import Train
from pipeline.training.resume import ResumeFolder
from segformer import distributed
from segformer.device import is_out_of_memory
from segformer.training.state import NonFiniteLossError

_MAX_FRAMES_LISTED = 4  # frames


class OutOfMemoryError(ValueError):
    """The device has too little memory for this training."""


@contextmanager
def name_bad_frames(
    frame_names: Callable[[int], list[str]], folder: ResumeFolder
) -> Iterator[None]:
    """Name what was learnt from when the loss was not finite any more.

    Args:
        frame_names: from the number of an update to its frames.
        folder: with the states.

    Raises:
        NonFiniteLossError: with the step's frames and the last good state.
    """
    try:
        yield
    except NonFiniteLossError as error:
        names = frame_names(error.step)
        more = (
            f" and {len(names) - _MAX_FRAMES_LISTED} more"
            if len(names) > _MAX_FRAMES_LISTED
            else ""
        )
        error.args = (
            f"{error}. Its frames: {', '.join(names[:_MAX_FRAMES_LISTED])}{more}. {_describe_last_state(folder)}",
        )
        raise


@contextmanager
def explain_out_of_memory(params: Train) -> Iterator[None]:
    """Name what was too large for the memory, and what to change.

    Raises:
        OutOfMemoryError: with the batch and the crop, and which parameter to lower.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        rows, columns = params.augment.crop
        raise OutOfMemoryError(
            f"out of memory with train.batch_size {params.batch_size} in train.accumulation "
            f"{params.accumulation} parts, train.augment.crop {rows} x {columns}: raise "
            "train.accumulation (the same batch in smaller parts), or turn on "
            "train.activation_checkpointing, or lower train.augment.crop; "
            f"{str(error).strip().splitlines()[0] if str(error) else 'no more is known'}"
        ) from error


def exit_resumable(step: int) -> NoReturn:
    """End the process, whose state after `step` updates is saved; of many, the first says so."""
    told = f"stopped at step {step}; the same command goes on from there"
    sys.exit(told if distributed.is_main() else 1)


def _describe_last_state(folder: ResumeFolder) -> str:
    steps = folder.snapshots.steps()
    if not steps:
        return "No state was saved before it"
    return f"The last good state is that of step {steps[-1]}, in {folder.path}"
