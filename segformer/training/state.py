"""All that a training in progress consists of: what goes on from it ends with the same bytes."""

from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segformer import distributed
from segformer.training.ema import ModelEma


@dataclass(frozen=True)
class StepRecord:
    """How training stands after `step` of `steps` updates.

    `loss` is the mean over the updates since the last record, `learning_rate` the first parameter
    group's at this update, `images_per_second` leaves validation out (a process that has made no
    update yet repeats the last record's, or says 0), `val_miou` is 0..1, or None where there was no
    validation at this step.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float
    val_miou: float | None


class NonFiniteLossError(ValueError):
    """A loss or a gradient became infinite or nan at update number `step` of `steps`."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(
            f"step {step} of {steps}: the loss or its gradient is not finite; "
            "lower the learning rate, lengthen the warm-up or clip the gradient"
        )
        self.step = step


class TrainingState:
    """A model, what trains it, and how far it has come.

    Args:
        model: on its device.
        optimizer: over the model's parameters, every group at its base learning rate.
        ema_decay: what the exponential moving average of the weights keeps at each update, above 0
            and below 1; None for no average.
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
        # Both stay on the device: reading them is waiting for it.
        self._losses = torch.zeros(2, dtype=torch.float64, device=device)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @property
    def eval_model(self) -> nn.Module:
        """The model to validate and to keep: the average of the weights, if there is one."""
        return self.model if self.ema is None else self.ema.model

    def set_learning_rates(self, factor: float) -> None:
        """Give every parameter group its base learning rate times `factor`."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def count_update(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Note that an update was made; what it cost is read later, by `mean_loss`."""
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model, is_first=self.step == 1)
        is_finite = loss.isfinite() & gradient_norm.isfinite()
        first = self._losses[1]
        first = torch.where((first == 0) & ~is_finite, self.step, first)
        self._losses = torch.stack((self._losses[0] + loss, first))

    def mean_loss(self, steps: int) -> float:
        """Mean loss of the updates since the last record; waits for the device.

        Raises:
            NonFiniteLossError: naming the first step that was not finite.
        """
        total, first = self._losses.tolist()
        if first:
            raise NonFiniteLossError(int(first), steps)
        done = self.history[-1].step if self.history else 0
        return float(total) / (self.step - done)

    @property
    def speed(self) -> float:
        """Images per second by the last record; 0 before the first."""
        return self.history[-1].images_per_second if self.history else 0.0

    @property
    def has_current_record(self) -> bool:
        """Whether the last record is of the last update; so it is before the first."""
        return self.step == (self.history[-1].step if self.history else 0)

    def record(self, steps: int, loss: float, speed: float, miou: float | None) -> StepRecord:
        """Add a record to the history and return it; the next mean loss starts here."""
        rate = self.optimizer.param_groups[0]["lr"]
        self.history.append(StepRecord(self.step, steps, loss, rate, speed, miou))
        self._losses = torch.zeros_like(self._losses)
        return self.history[-1]

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and plain values; with many processes all of them call it."""
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
        """Become what `state_dict` told, the random generators of this process included."""
        self.step = content["step"]
        self.history = [StepRecord(*record) for record in content["history"]]
        self._losses = content["losses"].to(self._losses)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.ema is not None:
            self.ema.model.load_state_dict(content["average"])
        states = [every[distributed.rank()] for every in content["generators"]]
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state)


def _rng_states() -> list[Tensor]:
    """State of the CPU's generator, and of this process's GPU's if there is one; bytes."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return states
