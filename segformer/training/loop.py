"""The training loop: updates, records, validation and saved states."""

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
    """The settings of a training.

    Args:
        steps: total number of updates.
        loss: from scores at the size of the labels and train ids to a scalar.
        schedule: from the number of updates done to the factor of the base learning rates.
        clip_norm: largest norm of the gradient; None for no clipping.
        accumulation: number of equal parts of a batch whose gradients are accumulated.
        autocast: type for torch.autocast; None to compute in the type of the weights.
        report_every: steps between records.
        validate_every: steps between validations; the last step always validates.
        save_every: steps between saved states; the state is also saved before every validation.
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
        """Return whether to validate after `step` updates."""
        return step == self.steps or step % self.validate_every == 0

    def should_record(self, step: int) -> bool:
        """Return whether to make a record after `step` updates."""
        return self.should_validate(step) or step % self.report_every == 0

    def should_save(self, step: int) -> bool:
        """Return whether to save the state after `step` updates."""
        return self.should_validate(step) or step % self.save_every == 0


BatchStream = Callable[[int], Generator[Batch, None, None]]
"""From the number of updates done to the endless stream of the following batches."""


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
    """Train `state.model` in place from `state.step` on; `state.history` holds the records.

    The loop waits for the device only to make a record or to save the state.

    Args:
        state: of a new training, or of an interrupted one.
        batches: the training batches.
        recipe: the settings.
        validate: from the evaluation model to its validation mIoU, 0..1.
        report: called with each new record.
        save: saves the state; called in every process.
        should_stop: whether to save the state and return before the last step.
        network: computes the scores: None for the model, or a wrapper around it.

    Raises:
        NonFiniteLossError: naming the step; all saved states are from before it.
    """
    network = network or state.model
    timer = ThroughputMeter(state.speed)
    with closing(batches(state.step)) as stream:
        while True:
            if recipe.should_record(state.step) and not state.has_current_record:
                loss = state.mean_loss(recipe.steps)  # waits for the device
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

            is_stopping = distributed.any_rank(should_stop()) and state.step < recipe.steps
            if is_stopping or recipe.should_save(state.step):
                state.mean_loss(recipe.steps)  # raises if not finite: such a state is not saved
                save(state)
            if is_stopping:
                return


def backward(network: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Accumulate the gradient of a batch's loss in the parameters; return the loss, a scalar."""
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
    """Clip the norm of the gradient to `max_norm`; return the norm before, a scalar."""
    gradients = [parameter.grad for parameter in model.parameters()]
    norm = get_total_norm([gradient for gradient in gradients if gradient is not None])
    if max_norm is not None:
        clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return norm


def skip_gradient_sync(network: nn.Module) -> AbstractContextManager[None]:
    """Skip the gradient synchronization of DistributedDataParallel, for all but the last part."""
    no_sync: Callable[[], AbstractContextManager[None]] = getattr(network, "no_sync", nullcontext)
    return no_sync()


class ThroughputMeter:
    """Images per second since its creation.

    Args:
        previous_rate: the last measurement, returned until there are images.
    """

    def __init__(self, previous_rate: float) -> None:
        self.images = 0
        self._previous_rate = previous_rate
        self._started = time.perf_counter()

    def rate(self) -> float:
        """Return images per second."""
        if not self.images:  # resumed at a step with a record
            return self._previous_rate
        return self.images / (time.perf_counter() - self._started)
