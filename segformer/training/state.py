"""The complete state of a training: resuming from it ends with the same bytes."""

from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segformer import distributed
from segformer.training.ema import ModelEma


@dataclass(frozen=True)
class StepRecord:
    """The progress of a training after `step` of `steps` updates.

    Attributes:
        step: number of updates done.
        steps: total number of updates.
        loss: mean over the updates since the last record.
        learning_rate: of the first parameter group at this update.
        images_per_second: without validation; in a process that has made no update yet, the value
            of the last record, or 0.
        val_miou: 0..1; None if there was no validation at this step.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float
    val_miou: float | None


class NonFiniteLossError(ValueError):
    """The loss or its gradient became infinite or nan at update number `step` of `steps`."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(
            f"step {step} of {steps}: the loss or its gradient is not finite; "
            "lower the learning rate, lengthen the warm-up or clip the gradient"
        )
        self.step = step


class TrainingState:
    """A model, its optimizer and moving average, and the records so far.

    Args:
        model: on its device.
        optimizer: over the parameters of the model, every group at its base learning rate.
        ema_decay: decay of the exponential moving average of the weights, above 0 and below 1; None
            for no average.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, ema_decay: float | None = None
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.ema = None if ema_decay is None else ModelEma(model, ema_decay)
        self.step = 0
        self.history: list[StepRecord] = []
        device = next(model.parameters()).device
        # Sum of the losses since the last record, and the first step that was not finite (0: none).
        # Both stay on the device: reading them waits for it.
        self._losses = torch.zeros(2, dtype=torch.float64, device=device)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @property
    def eval_model(self) -> nn.Module:
        """The model to validate and to keep: the averaged one if there is an average."""
        return self.model if self.ema is None else self.ema.model

    def set_learning_rates(self, factor: float) -> None:
        """Set every parameter group to its base learning rate times `factor`."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def count_update(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Count an update and add its loss; `mean_loss` reads the sum later."""
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model, is_first=self.step == 1)
        is_finite = loss.isfinite() & gradient_norm.isfinite()
        total, first_bad = self._losses
        first_bad = torch.where((first_bad == 0) & ~is_finite, self.step, first_bad)
        self._losses = torch.stack((total + loss, first_bad))

    def mean_loss(self, steps: int) -> float:
        """Return the mean loss of the updates since the last record; waits for the device.

        Raises:
            NonFiniteLossError: naming the first step that was not finite.
        """
        total, first_bad = self._losses.tolist()
        if first_bad:
            raise NonFiniteLossError(int(first_bad), steps)
        recorded = self.history[-1].step if self.history else 0
        return float(total) / (self.step - recorded)

    @property
    def speed(self) -> float:
        """Images per second of the last record; 0 before the first."""
        return self.history[-1].images_per_second if self.history else 0.0

    @property
    def has_current_record(self) -> bool:
        """Whether the last record is of the last update; True before the first update."""
        return self.step == (self.history[-1].step if self.history else 0)

    def record(self, steps: int, loss: float, speed: float, miou: float | None) -> StepRecord:
        """Add a record to the history and return it; the next mean loss starts here."""
        rate = self.optimizer.param_groups[0]["lr"]
        self.history.append(StepRecord(self.step, steps, loss, rate, speed, miou))
        self._losses = torch.zeros_like(self._losses)
        return self.history[-1]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values; a collective call of all processes."""
        return {
            "step": self.step,
            "history": [list(astuple(record)) for record in self.history],
            "losses": self._losses,
            "model": self.model.state_dict(),
            "average": self.ema and self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": [distributed.all_gather(state) for state in _rng_states()],
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Restore a state of `state_dict`, including the random generators of this process."""
        self.step = content["step"]
        self.history = [StepRecord(*record) for record in content["history"]]
        self._losses = content["losses"].to(self._losses)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.ema is not None:
            self.ema.model.load_state_dict(content["average"])
        states = [gathered[distributed.rank()] for gathered in content["generators"]]
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state)


def _rng_states() -> list[Tensor]:
    """Return the state of the CPU's generator and of this process's GPU, if there is one; bytes."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return states
