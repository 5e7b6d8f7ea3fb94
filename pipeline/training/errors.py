"""Explain why a training ended: a signal, too little memory, or a loss that is not finite."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from pipeline.params.train import Train
from pipeline.training.resume import ResumeFolder
from segformer import distributed
from segformer.device import is_out_of_memory
from segformer.training.state import NonFiniteLossError

_MAX_FRAMES_LISTED = 4


class OutOfMemoryError(ValueError):
    """The device has too little memory for this training."""


@contextmanager
def name_bad_frames(
    frame_names: Callable[[int], list[str]], folder: ResumeFolder
) -> Iterator[None]:
    """Add the step's frames and the last saved state to the error of a loss that is not finite.

    Args:
        frame_names: returns the frames of a step, by its number.
        folder: holds the saved states.

    Raises:
        NonFiniteLossError: the same error, with a longer message.
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
        frames = f"{', '.join(names[:_MAX_FRAMES_LISTED])}{more}"
        error.args = (f"{error}. Frames of the step: {frames}. {_describe_last_state(folder)}",)
        raise


@contextmanager
def explain_out_of_memory(params: Train) -> Iterator[None]:
    """Turn an out-of-memory error into a message that names the parameters to change.

    Raises:
        OutOfMemoryError: with the batch and the crop that did not fit.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        rows, columns = params.augment.crop
        raise OutOfMemoryError(
            f"out of memory with train.batch_size {params.batch_size}, train.accumulation"
            f" {params.accumulation} and train.augment.crop {rows} x {columns}: raise"
            " train.accumulation (the same batch in smaller parts), or set"
            " train.activation_checkpointing to true, or lower train.augment.crop"
            f" ({str(error).strip().splitlines()[0] if str(error) else 'no details'})"
        ) from error


def exit_resumable(step: int) -> NoReturn:
    """Exit after the state of `step` was saved; only the main process prints the message."""
    message = f"stopped at step {step}; run the same command to resume"
    sys.exit(message if distributed.is_main() else 1)


def _describe_last_state(folder: ResumeFolder) -> str:
    steps = folder.snapshots.steps()
    if not steps:
        return "No state was saved before this step"
    return f"The last good state is that of step {steps[-1]}, in {folder.path}"
