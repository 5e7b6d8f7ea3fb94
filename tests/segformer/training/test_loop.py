import dataclasses
import io
import itertools
import math
from collections.abc import Callable, Generator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segformer.losses import get_loss
from segformer.training.loop import Batch, BatchStream, Recipe, fit
from segformer.training.state import NonFiniteLossError, StepRecord, TrainingState


class NormalizedModel(nn.Module):
    """Three classes at half the size, with norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(8, 3, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, 3, h / 2, w / 2)."""
        return self.layers(images)


def color_batches(seed: int, b: int = 4) -> BatchStream:
    """Endless batches in which the class of a pixel is its brightest channel."""

    def batches(start: int) -> Generator[Batch, None, None]:
        for step in itertools.count(start):
            generator = torch.Generator().manual_seed(1000 * seed + step)
            coarse = torch.randn(b, 3, 4, 6, generator=generator)
            images = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
            yield images, images.argmax(1)

    return batches


class TinyTraining:
    """A training of a tiny network, with its inputs and results."""

    def __init__(
        self,
        seed: int = 0,
        *,
        lr: float = 0.1,
        ema_decay: float | None = None,
        **numbers: object,
    ) -> None:
        torch.manual_seed(seed)
        self.model = NormalizedModel()
        self.reported: list[StepRecord] = []
        self.saved: list[dict[str, Any]] = []
        self.validated_after: list[int] = []
        self.batches = color_batches(seed)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr)
        if ema_decay is None:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self.state = TrainingState(self.model, self.optimizer, ema_decay)
        defaults = {"steps": 6, "loss": get_loss("ce"), "schedule": lambda step: 1.0}
        rare = {"report_every": 1, "validate_every": 100, "save_every": 100}
        self.recipe = Recipe(**(defaults | rare | numbers))

    def fit(self, stop_at: int | None = None) -> "TinyTraining":
        """Train, and return the run itself."""
        fit(
            self.state,
            self.batches,
            self.recipe,
            report=self.reported.append,
            validate=self._validate,
            save=self._save,
            should_stop=lambda: stop_at == self.state.step,
        )
        return self

    def _validate(self, model: nn.Module) -> float:
        model.eval()
        self.validated_after.append(len(self.state.history))
        return 0.5

    def _save(self, state: TrainingState) -> None:
        file = io.BytesIO()
        torch.save(state.state_dict(), file)
        file.seek(0)
        self.saved.append(torch.load(file, weights_only=True))

    @property
    def history(self) -> list[StepRecord]:
        """All records."""
        return self.state.history

    def weights(self) -> list[bytes]:
        """Parameters and buffers of the model to keep, byte for byte."""
        return [tensor.numpy().tobytes() for tensor in self.state.eval_model.state_dict().values()]

    def facts(self) -> list[tuple[object, ...]]:
        """The history without what a clock decides."""
        return [(p.step, p.loss, p.learning_rate, p.val_miou) for p in self.history]


@pytest.mark.parametrize("name", ["ce", "dice"])
def test_loss_falls(name: str) -> None:
    """Forty steps on an easy task lower the loss by at least a third."""
    history = TinyTraining(steps=40, loss=get_loss(name), lr=0.5).fit().history
    assert 2 / 3 * history[0].loss > history[-1].loss


def test_same_seed_gives_the_same_bytes() -> None:
    """Two runs end with equal weights and buffers; another seed does not."""
    first, second, other = (TinyTraining(seed).fit() for seed in (3, 3, 4))
    assert first.weights() == second.weights()
    assert first.weights() != other.weights()
    assert [p.loss for p in first.history] == [p.loss for p in second.history]


def test_one_step_is_gradient_descent() -> None:
    """A single step equals the update written out by hand."""
    run, hand = TinyTraining(steps=1), TinyTraining(steps=1)
    images, labels = next(color_batches(0)(0))
    torch.manual_seed(7)  # dropout
    scores = nn.functional.interpolate(hand.model(images), (16, 24), mode="bilinear")
    nn.functional.cross_entropy(scores, labels).backward()
    torch.manual_seed(7)
    run.fit()
    for ours, theirs in zip(run.model.parameters(), hand.model.parameters(), strict=True):
        torch.testing.assert_close(theirs - 0.1 * theirs.grad, ours)


def test_gradients_are_reset_between_steps() -> None:
    """With learning rate 0 from the second step on, only the first step changes the weights."""
    first = TinyTraining(steps=1).fit()
    three = TinyTraining(steps=3, schedule=lambda step: float(step == 0)).fit()
    for a, b in zip(first.model.parameters(), three.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_group_follows_the_schedule() -> None:
    """Each group's base rate is multiplied by the factor for the number of updates done."""
    requested_steps: list[int] = []
    rates: list[list[float]] = []
    run = TinyTraining(
        steps=4, schedule=lambda step: (requested_steps.append(step), 1 / (step + 1))[1]
    )
    run.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0})
    run.state = TrainingState(run.model, run.optimizer)
    run.recipe = dataclasses.replace(run.recipe, loss=record_learning_rates(rates, run.optimizer))
    run.fit()
    assert [0, 1, 2, 3] == requested_steps
    assert [[0.1, 1.0], [0.05, 0.5], [0.1 / 3, 1 / 3], [0.025, 0.25]] == rates
    assert [0.1, 0.05, 0.1 / 3, 0.025] == [p.learning_rate for p in run.history]


def record_learning_rates(
    rates: list[list[float]], optimizer: torch.optim.Optimizer
) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss that records the learning rates at the step of its call."""

    def loss(scores: Tensor, target: Tensor) -> Tensor:
        rates.append([group["lr"] for group in optimizer.param_groups])
        return get_loss("ce")(scores, target)

    return loss


def test_gradient_is_clipped() -> None:
    """With SGD at rate 1 a step is no longer than the limit; without a limit it is."""

    def length(clip_norm: float | None) -> float:
        run = TinyTraining(steps=1, lr=1.0, clip_norm=clip_norm)
        before = [p.detach().clone() for p in run.model.parameters()]
        run.fit()
        moves = [p - b for p, b in zip(run.model.parameters(), before, strict=True)]
        return math.sqrt(sum(move.square().sum().item() for move in moves))

    assert 0.01 == pytest.approx(length(0.01), rel=1e-3)
    assert 0.05 < length(None)


def test_records_and_validations_follow_the_settings() -> None:
    """A record every 2 steps, a validation every 3, both at the end."""
    history = TinyTraining(steps=7, report_every=2, validate_every=3).fit().history
    assert [2, 3, 4, 6, 7] == [p.step for p in history]
    assert [None, 0.5, None, 0.5, 0.5] == [p.val_miou for p in history]
    assert {7} == {p.steps for p in history}
    assert all(p.images_per_second > 0 for p in history)


def test_last_step_validates_once() -> None:
    """Also if it is a multiple of the interval."""
    run = TinyTraining(steps=4, report_every=100, validate_every=2).fit()
    assert [0, 1] == run.validated_after
    assert [2, 4] == [p.step for p in run.history]


def test_loss_of_a_record_is_the_mean_since_the_last_one() -> None:
    """Records of two steps have the means of records of one step."""
    ones = [p.loss for p in TinyTraining(steps=6).fit().history]
    twos = [p.loss for p in TinyTraining(steps=6, report_every=2).fit().history]
    assert [(a + b) / 2 for a, b in zip(ones[::2], ones[1::2], strict=True)] == pytest.approx(twos)


def test_training_mode_is_restored_after_validation() -> None:
    """A validation that leaves the model in evaluation mode does not change the training."""
    assert TinyTraining().fit().weights() == TinyTraining(validate_every=1).fit().weights()


def test_validation_time_is_not_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 images a step, 1 s a step, 1000 s of validation: still 4 images per second."""
    clock = [0.0]
    monkeypatch.setattr("segformer.training.loop.time.perf_counter", lambda: clock[0])
    run = TinyTraining(steps=4, validate_every=2, report_every=100)

    def schedule(step: int) -> float:
        clock[0] += 1
        return 1.0

    validate = run._validate

    def slow(model: nn.Module) -> float:
        clock[0] += 1000
        return validate(model)

    run.recipe = dataclasses.replace(run.recipe, schedule=schedule)
    run._validate = slow
    assert [4.0, 4.0] == [p.images_per_second for p in run.fit().history]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_loss_stops_the_training(bad: float) -> None:
    """The message has the first bad step, though it is checked only at a record."""
    values = iter([1.0, 1.0, bad, 1.0, 1.0, 1.0])
    run = TinyTraining(
        loss=lambda scores, target: get_loss("ce")(scores, target) * next(values), report_every=5
    )
    with pytest.raises(NonFiniteLossError, match="step 3 of 6: the loss or its gradient is not"):
        run.fit()
    assert [] == run.history


def test_non_finite_gradient_stops_the_training() -> None:
    """A loss of 0 with the infinite gradient of a root, in the last step."""
    run = TinyTraining(steps=1, loss=lambda scores, target: (scores * 0).sum().sqrt())
    with pytest.raises(NonFiniteLossError, match="step 1 of 1"):
        run.fit()


def test_non_finite_state_is_never_saved() -> None:
    """If a state is due before a record, the loss is checked first."""
    values = iter([1.0, math.nan, 1.0])
    run = TinyTraining(
        loss=lambda scores, target: get_loss("ce")(scores, target) * next(values),
        report_every=100,
        save_every=1,
    )
    with pytest.raises(NonFiniteLossError, match="step 2 of 6"):
        run.fit()
    assert [1] == [state["step"] for state in run.saved]


@pytest.mark.parametrize("ema_decay", [None, 0.5])
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_resumed_training_ends_with_the_same_bytes(stop: int, ema_decay: float | None) -> None:
    """Stopped after any step, saved and resumed in a new process: equal bit for bit.

    Weights, averages, statistics and the whole history, including the losses since the last record.
    """
    numbers: dict[str, Any] = {"report_every": 4, "validate_every": 3, "ema_decay": ema_decay}
    whole = TinyTraining(**numbers).fit()
    first = TinyTraining(**numbers).fit(stop_at=stop)
    assert stop == first.saved[-1]["step"]
    second = TinyTraining(seed=9, **numbers)  # other weights, another state of the random generator
    second.batches = color_batches(0)
    second.state.load_state_dict(first.saved[-1])
    second.fit()
    assert whole.weights() == second.weights()
    assert whole.facts() == second.facts()
    assert [p.step for p in whole.history] == [p.step for p in first.reported + second.reported]


def test_resumed_training_makes_a_missed_validation() -> None:
    """The state of step 3 is saved before its validation, which the resumed training then does."""
    first = TinyTraining(validate_every=3).fit(stop_at=3)
    assert [] == first.validated_after
    second = TinyTraining(validate_every=3)
    second.state.load_state_dict(first.saved[-1])
    assert [3, 4, 5, 6] == [p.step for p in second.fit().reported]
    assert [None, None, 0.5, None, None, 0.5] == [p.val_miou for p in second.history]


def test_states_are_saved_at_the_interval_and_before_validations() -> None:
    """Every 4 steps, and at 3, 6 and 7, where it validates."""
    run = TinyTraining(steps=7, validate_every=3, save_every=4).fit()
    assert [3, 4, 6, 7] == [state["step"] for state in run.saved]


def test_accumulation_equals_the_mean_gradient() -> None:
    """A batch in two equal parts gives the update of the mean of their losses."""
    whole, halves = TinyTraining(steps=1, lr=1.0), TinyTraining(steps=1, lr=1.0, accumulation=2)
    for run in (whole, halves):
        run.model.layers = nn.Sequential(run.model.layers[0], nn.ReLU(), run.model.layers[4])
        run.optimizer = torch.optim.SGD(run.model.parameters(), lr=1.0)
        run.state = TrainingState(run.model, run.optimizer)
    torch.testing.assert_close(
        dict(whole.fit().model.named_parameters()), dict(halves.fit().model.named_parameters())
    )
    assert whole.history[0].loss == pytest.approx(halves.history[0].loss)


def test_average_is_exponential() -> None:
    """With decay 0.75 the average after three updates equals the recurrence by hand.

    That holds for weights and BatchNorm statistics; the number of batches is copied.
    """
    states: list[dict[str, Tensor]] = []
    run = TinyTraining(steps=3, ema_decay=0.75)
    update = run.state.count_update

    def noting(loss: Tensor, norm: Tensor) -> None:
        states.append({name: value.clone() for name, value in run.model.state_dict().items()})
        update(loss, norm)

    run.state.count_update = noting
    run.fit()
    expected = states[0]
    for after in states[1:]:
        for name, value in after.items():
            is_count = name.endswith("num_batches_tracked")
            expected[name] = value if is_count else 0.75 * expected[name] + 0.25 * value
    torch.testing.assert_close(expected, run.state.eval_model.state_dict())
    assert run.state.eval_model is not run.model


def test_record_after_resuming_repeats_the_last_speed() -> None:
    """Killed in the validation of step 4: the resumed training makes its record first."""
    first = TinyTraining(steps=4, validate_every=4)

    def die(model: nn.Module) -> float:
        raise KeyboardInterrupt

    first._validate = die
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    second = TinyTraining(steps=4, validate_every=4)
    second.state.load_state_dict(first.saved[-1])
    second.fit()
    assert [1, 2, 3, 4] == [p.step for p in second.history]
    assert 0 < second.history[2].images_per_second == second.history[3].images_per_second


def test_speed_includes_the_time_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of four images take 10 s, which only reading the loss waits for."""
    clock = [0.0]
    monkeypatch.setattr("segformer.training.loop.time.perf_counter", lambda: clock[0])
    run = TinyTraining(steps=4, report_every=3)
    mean_loss = run.state.mean_loss

    def waiting(steps: int) -> float:
        clock[0] += 10
        return mean_loss(steps)

    monkeypatch.setattr(run.state, "mean_loss", waiting)
    assert 4 * 3 / 10 == run.fit().history[0].images_per_second


def test_autocast_computes_in_bfloat16() -> None:
    """The scores are bfloat16, the weights stay float32, and the loss falls."""
    dtypes: list[torch.dtype] = []

    def loss(scores: Tensor, target: Tensor) -> Tensor:
        dtypes.append(scores.dtype)
        return get_loss("ce")(scores, target)

    run = TinyTraining(steps=40, lr=0.5, loss=loss, autocast=torch.bfloat16).fit()
    assert {torch.bfloat16} == set(dtypes)
    assert {torch.float32} == {p.dtype for p in run.model.parameters()}
    assert 2 / 3 * run.history[0].loss > run.history[-1].loss


def test_non_finite_loss_is_a_value_error() -> None:
    """It is handled like every other ValueError."""
    assert issubclass(NonFiniteLossError, ValueError)


def test_records_are_frozen() -> None:
    """Assigning to a field is an error."""
    progress = StepRecord(1, 2, 0.5, 0.1, 3.0, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        progress.loss = 0.0
