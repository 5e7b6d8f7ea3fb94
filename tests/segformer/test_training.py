import dataclasses
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from segformer.losses import get_loss
from segformer.training import NonFiniteLossError, Progress, fit


class Tiny(nn.Module):
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


def colours(seed: int, b: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches in which the class of a pixel is its brightest channel."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        coarse = torch.randn(b, 3, 4, 6, generator=generator)
        images = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
        yield images, images.argmax(1)


class Run:
    """One training of a tiny network: what went in and what came out."""

    def __init__(self, seed: int = 0, *, steps: int = 6, lr: float = 0.1, **parts: object) -> None:
        torch.manual_seed(seed)
        self.model = Tiny()
        self.history: list[Progress] = []
        self.validated_after: list[int] = []
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self.parts: dict = {
            "batches": colours(seed),
            "loss": get_loss("ce"),
            "schedule": lambda step: 1.0,
            "steps": steps,
            "clip_norm": None,
            "report_every": 1,
            "validate_every": 100,
        } | parts

    def fit(self) -> "Run":
        """Train, and return the run itself."""
        fit(
            self.model,
            optimizer=self.optimizer,
            report=self.history.append,
            validate=self._validate,
            **self.parts,
        )
        return self

    def _validate(self) -> float:
        self.model.eval()
        self.validated_after.append(len(self.history))
        return 0.5

    def weights(self) -> list[bytes]:
        """Parameters and buffers, byte for byte."""
        return [tensor.numpy().tobytes() for tensor in self.model.state_dict().values()]


@pytest.mark.parametrize("name", ["ce", "dice"])
def test_it_learns(name: str) -> None:
    """Forty steps on an easy task bring the loss down by a third at least."""
    history = Run(steps=40, loss=get_loss(name), lr=0.5).fit().history
    assert 2 / 3 * history[0].loss > history[-1].loss


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Two runs end with equal weights and buffers, another seed does not."""
    one, two, other = (Run(seed).fit() for seed in (3, 3, 4))
    assert one.weights() == two.weights()
    assert one.weights() != other.weights()
    assert [p.loss for p in one.history] == [p.loss for p in two.history]


def test_one_step_is_gradient_descent() -> None:
    """A single step equals the update written out by hand."""
    run, hand = Run(steps=1), Run(steps=1)
    images, labels = next(colours(0))
    torch.manual_seed(7)  # dropout
    scores = nn.functional.interpolate(hand.model(images), (16, 24), mode="bilinear")
    nn.functional.cross_entropy(scores, labels).backward()
    torch.manual_seed(7)
    run.fit()
    for ours, theirs in zip(run.model.parameters(), hand.model.parameters(), strict=True):
        torch.testing.assert_close(theirs - 0.1 * theirs.grad, ours)


def test_gradients_do_not_add_up_over_steps() -> None:
    """With a learning rate of 0 from the second step on, only the first one moves the weights."""
    one = Run(steps=1).fit()
    three = Run(steps=3, schedule=lambda step: float(step == 0)).fit()
    for a, b in zip(one.model.parameters(), three.model.parameters(), strict=True):
        assert torch.equal(a, b)
    gradients = [p.grad for p in three.model.parameters()]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_every_group_follows_the_schedule() -> None:
    """The factor is of each group's own rate, asked for with the updates done so far."""
    asked: list[int] = []
    rates: list[list[float]] = []
    run = Run(steps=4, schedule=lambda step: (asked.append(step), 1 / (step + 1))[1])
    run.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0})
    run.parts["loss"] = recording(rates, run.optimizer)
    run.fit()
    assert [0, 1, 2, 3] == asked
    assert [[0.1, 1.0], [0.05, 0.5], [0.1 / 3, 1 / 3], [0.025, 0.25]] == rates
    assert [0.1, 0.05, 0.1 / 3, 0.025] == [p.learning_rate for p in run.history]


def recording(
    rates: list[list[float]], optimizer: torch.optim.Optimizer
) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss that notes the learning rates of the step it is asked in."""

    def loss(scores: Tensor, target: Tensor) -> Tensor:
        rates.append([group["lr"] for group in optimizer.param_groups])
        return get_loss("ce")(scores, target)

    return loss


def test_the_gradient_is_clipped() -> None:
    """A step with SGD and rate 1 is no longer than the norm allowed; without limit it is."""

    def length(clip_norm: float | None) -> float:
        run = Run(steps=1, lr=1.0, clip_norm=clip_norm)
        before = [p.detach().clone() for p in run.model.parameters()]
        run.fit()
        moves = [p - b for p, b in zip(run.model.parameters(), before, strict=True)]
        return math.sqrt(sum(move.square().sum().item() for move in moves))

    assert 0.01 == pytest.approx(length(0.01), rel=1e-3)
    assert 0.05 < length(None)


def test_reports_and_validations_come_when_told() -> None:
    """Every 2 steps a report, every 3 a validation, both at the end."""
    history = Run(steps=7, report_every=2, validate_every=3).fit().history
    assert [2, 3, 4, 6, 7] == [p.step for p in history]
    assert [None, 0.5, None, 0.5, 0.5] == [p.val_miou for p in history]
    assert {7} == {p.steps for p in history}
    assert all(p.images_per_second > 0 for p in history)


def test_the_last_step_validates_once() -> None:
    """Also if it is one of the regular ones."""
    run = Run(steps=4, report_every=100, validate_every=2).fit()
    assert [0, 1] == run.validated_after
    assert [2, 4] == [p.step for p in run.history]


def test_the_reported_loss_is_the_mean_since_the_last_report() -> None:
    """Reports of two steps each hold the means of what reports of one step hold."""
    ones = [p.loss for p in Run(steps=6).fit().history]
    twos = [p.loss for p in Run(steps=6, report_every=2).fit().history]
    assert [(a + b) / 2 for a, b in zip(ones[::2], ones[1::2], strict=True)] == pytest.approx(twos)


def test_training_goes_on_in_training_mode_after_a_validation() -> None:
    """Validating, even if it leaves the model in evaluation mode, changes nothing learnt."""
    assert Run().fit().weights() == Run(validate_every=1).fit().weights()


def test_validation_time_does_not_count_as_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 images a step, a second a step, 1000 s of validation: still 4 images per second."""
    clock = [0.0]
    monkeypatch.setattr("segformer.training.time.perf_counter", lambda: clock[0])
    run = Run(steps=4, validate_every=2, report_every=100)

    def schedule(step: int) -> float:
        clock[0] += 1
        return 1.0

    validate = run._validate

    def slow() -> float:
        clock[0] += 1000
        return validate()

    run.parts["schedule"] = schedule
    run._validate = slow
    assert [4.0, 4.0] == [p.images_per_second for p in run.fit().history]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights(bad: float) -> None:
    """The message names the step; the model is as it was after the step before."""
    values = iter([1.0, 1.0, bad])
    run = Run(loss=lambda scores, target: get_loss("ce")(scores, target) * next(values))
    with pytest.raises(NonFiniteLossError, match=rf"step 3 of 6: the loss is {bad}; lower"):
        run.fit()
    good = Run(steps=2).fit()
    for ours, theirs in zip(run.model.parameters(), good.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert 2 == len(run.history)


def test_a_non_finite_loss_is_a_mistake_of_the_user() -> None:
    """It is caught as every other ValueError is."""
    assert issubclass(NonFiniteLossError, ValueError)


def test_records_cannot_be_changed() -> None:
    """Progress is frozen."""
    progress = Progress(1, 2, 0.5, 0.1, 3.0, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        progress.loss = 0.0
