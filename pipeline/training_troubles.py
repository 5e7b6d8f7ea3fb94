"""Says what ended a training in a person's words: too little memory, a loss that is not finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from segformer.training_state import NonFiniteLossError

if TYPE_CHECKING:
    from pipeline.stages.train import Train
    from pipeline.training_folder import TrainingFolder
    from segformer.batches import Batches

_SHOWN = 4  # frames


class OutOfMemoryError(ValueError):
    """The device has too little memory for this training."""


@contextmanager
def explained(params: "Train", batches: "Batches", folder: "TrainingFolder") -> Iterator[None]:
    """Name what failed, and what to change.

    Raises:
        NonFiniteLossError: with the step's frames and the last good state.
        OutOfMemoryError: with the batch and the crop, and which parameter to lower.
    """
    try:
        yield
    except NonFiniteLossError as error:
        names = batches.names(error.step)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        error.args = (
            f"{error}. Its frames: {', '.join(names[:_SHOWN])}{more}. {_last_good(folder)}",
        )
        raise
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        rows, columns = params.augment.crop
        raise OutOfMemoryError(
            f"out of memory with train.batch_size {params.batch_size} in train.accumulation "
            f"{params.accumulation} parts, train.augment.crop {rows} x {columns}: raise "
            "train.accumulation (the same batch in smaller parts), or turn on "
            "train.activation_checkpointing, or lower train.augment.crop; "
            f"{str(error).strip().splitlines()[0] if str(error) else 'no more is known'}"
        ) from error


def _last_good(folder: "TrainingFolder") -> str:
    steps = folder.snapshots.steps()
    if not steps:
        return "No state was saved before it"
    return f"The last good state is that of step {steps[-1]}, in {folder.path}"


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU's allocator has no error of its own.
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
