"""The training loop: it is given its parts and hands out records of progress."""

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from segformer import distributed
from segformer.inference.segment import resize_scores
from segformer.losses import Loss
from segformer.training.state import StepRecord, TrainingState

Batch = tuple[Tensor, Tensor]
"""Float images (b, 3, h, w) and int64 train ids (b, h, w), on the model's device."""


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training.

    Args:
        steps: updates in all.
        loss: from scores at the label's size and train ids to a scalar.
        schedule: from updates done so far to the factor of the base learning rates.
        clip_norm: largest norm of the whole gradient; None for no limit.
        accumulation: parts in which a batch is taken, one after the other; they divide it.
        autocast: type the network computes in where that is safe; None for that of its weights.
        report_every: steps from one record to the next.
        validate_every: steps; the last one always validates.
        save_every: steps; the state is also saved before every validation.
    """

    steps: int
    loss: Loss
    schedule: Callable[[int], float]
    clip_norm: float | None = None
    accumulation: int = 1
    autocast: torch.dtype | None = None
    report_every: int = 50
    validate_every: int = 500
    save_every: int = 500

    def should_validate(self, step: int) -> bool:
        """Whether there is a validation after `step` updates."""
        return step == self.steps or step % self.validate_every == 0

    def should_record(self, step: int) -> bool:
        """Whether there is a record after `step` updates."""
        return self.should_validate(step) or step % self.report_every == 0

    def should_save(self, step: int) -> bool:
        """Whether the state is saved after `step` updates."""
        return self.should_validate(step) or step % self.save_every == 0


BatchStream = Callable[[int], Generator[Batch, None, None]]
"""From updates done so far to the endless batches that follow."""


def fit(
    state: TrainingState,
    batches: BatchStream,
    recipe: Recipe,
    *,
    validate: Callable[[nn.Module], float],
    report: Callable[[StepRecord], None],
    save: Callable[[TrainingState], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    network: nn.Module | None = None,
) -> None:
    """Train `state.model` in place, from where `state` is; `state.history` is what happened.

    The device is waited for only where a record is made or the state is saved.

    Args:
        state: of a new training, or of one that was interrupted.
        batches: what to learn from.
        recipe: the numbers.
        validate: from the model to keep to its validation mIoU, 0..1.
        report: takes each new record.
        save: keeps the state; every process calls it, if there are many.
        should_stop: whether to save and return now, before the last step.
        network: what computes the scores: the model (None), or what is wrapped around it.

    Raises:
        NonFiniteLossError: naming the step; whatever was saved is from before it.
    """
    network = network or state.model
    timer = ThroughputMeter(state.speed)
    with closing(batches(state.step)) as stream:
        while True:
            if recipe.should_record(state.step) and not state.has_current_record:
                loss = state.mean_loss(recipe.steps)  # waits until all is computed
                speed = timer.rate()
                miou = validate(state.eval_model) if recipe.should_validate(state.step) else None
                report(state.record(recipe.steps, loss, speed, miou))
                timer = ThroughputMeter(speed)
            if state.step == recipe.steps:
                return

            network.train()
            state.set_learning_rates(recipe.schedule(state.step))
            images, labels = next(stream)
            value = backward(network, images, labels, recipe)
            norm = clip_gradients(state.model, recipe.clip_norm)
            state.optimizer.step()
            state.optimizer.zero_grad()
            state.count_update(value, norm)
            timer.images += len(images) * distributed.world_size()

            is_leaving = distributed.any_rank(should_stop()) and state.step < recipe.steps
            if is_leaving or recipe.should_save(state.step):
                state.mean_loss(recipe.steps)  # what is not finite is not worth keeping
                save(state)
            if is_leaving:
                return


def backward(network: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Add the gradient of a batch's loss to the parameters', and return the loss: a scalar."""
    total = torch.zeros((), device=images.device)
    parts = list(
        zip(images.chunk(recipe.accumulation), labels.chunk(recipe.accumulation), strict=True)
    )
    for index, (part, target) in enumerate(parts, 1):
        with skip_gradient_sync(network) if index < len(parts) else nullcontext():
            with torch.autocast(
                part.device.type, recipe.autocast, enabled=recipe.autocast is not None
            ):
                scores = resize_scores(network(part), target.shape[-2:])
            value = recipe.loss(scores, target) / len(parts)
            value.backward()
        total = total + value.detach()
    return total


def clip_gradients(model: nn.Module, max_norm: float | None) -> Tensor:
    """Shorten the gradient if its norm is above `max_norm`, and return the norm it had: a scalar."""
    gradients = [parameter.grad for parameter in model.parameters()]
    norm = get_total_norm([gradient for gradient in gradients if gradient is not None])
    if max_norm is not None:
        clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return norm


def skip_gradient_sync(network: nn.Module) -> AbstractContextManager[None]:
    """Within, processes keep their gradients to themselves: more of the batch is to come."""
    no_sync: Callable[[], AbstractContextManager[None]] = getattr(network, "no_sync", nullcontext)
    return no_sync()


class ThroughputMeter:
    """Images per second since it was made.

    Args:
        previous_rate: those measured last; they stand until there are images.
    """

    def __init__(self, previous_rate: float) -> None:
        self.images = 0
        self._previous_rate = previous_rate
        self._started = time.perf_counter()

    def rate(self) -> float:
        """Images per second."""
        if not self.images:  # taken up where a record is due
            return self._previous_rate
        return self.images / (time.perf_counter() - self._started)
