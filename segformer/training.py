"""The training loop: it is given its parts and hands out records of progress."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from segformer.inference import scores_at
from segformer.losses import Loss


@dataclass(frozen=True)
class Progress:
    """How training stands after `step` of `steps` updates.

    `loss` is the mean over the updates since the last record, `learning_rate` the first parameter
    group's at this update, `images_per_second` leaves validation out, `val_miou` is 0..1, or None
    where there was no validation at this step.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float
    val_miou: float | None


class NonFiniteLossError(ValueError):
    """The loss became infinite or nan; the weights are as they were before that step."""


def fit(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    steps: int,
    clip_norm: float | None,
    report: Callable[[Progress], None],
    validate: Callable[[], float],
    report_every: int,
    validate_every: int,
) -> None:
    """Train `model` in place; the history is what `report` is handed.

    Args:
        model: images (b, 3, h, w) to scores (b, k, any, any), on the device of the batches.
        batches: endless pairs of float images (b, 3, h, w) and int64 train ids (b, h, w).
        loss: from scores at the label's size and train ids to a scalar.
        optimizer: over the model's parameters, every group at its base learning rate.
        schedule: from updates done so far to the factor of the base learning rates.
        steps: updates in all.
        clip_norm: largest norm of the whole gradient; None for no limit.
        report: called every `report_every` steps, at every validation and at the end.
        validate: returns the validation mIoU, 0..1; the last step always validates.
        report_every: steps.
        validate_every: steps.

    Raises:
        NonFiniteLossError: naming the step.
    """
    base_rates = [group["lr"] for group in optimizer.param_groups]
    losses, images_seen, started = [], 0, time.perf_counter()
    model.train()
    for step in range(1, steps + 1):
        images, labels = next(batches)
        set_learning_rates(optimizer, base_rates, schedule(step - 1))
        value = loss(scores_at(model(images), labels.shape[-2:]), labels)
        losses.append(finite(value, step, steps))
        optimizer.zero_grad()
        value.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        images_seen += len(images)

        is_validated = step == steps or step % validate_every == 0
        if is_validated or step % report_every == 0:
            speed = images_seen / (time.perf_counter() - started)
            miou = validate() if is_validated else None
            rate = optimizer.param_groups[0]["lr"]
            report(Progress(step, steps, fmean(losses), rate, speed, miou))
            model.train()
            losses, images_seen, started = [], 0, time.perf_counter()


def set_learning_rates(
    optimizer: torch.optim.Optimizer, base_rates: list[float], factor: float
) -> None:
    """Give every parameter group its base learning rate times `factor`."""
    for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
        group["lr"] = rate * factor


def finite(value: Tensor, step: int, steps: int) -> float:
    """Return the loss as a number.

    Raises:
        NonFiniteLossError: if it is infinite or nan.
    """
    number = value.item()
    if not math.isfinite(number):
        raise NonFiniteLossError(
            f"step {step} of {steps}: the loss is {number}; "
            "lower the learning rate, lengthen the warm-up or clip the gradient"
        )
    return number
