"""Arms of one seed differ in their loss only."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.stages.gradients import load_initial_model
from segformer.losses import LOSSES
from segformer.weights.checkpoint import load
from tests.pipeline.stages.test_train import data, train

__all__ = ["data"]  # the fixture


class RecordingLoss:
    """A loss that records its inputs."""

    def __init__(self, name: str) -> None:
        self.loss = LOSSES[name]
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, scores: Tensor, target: Tensor) -> Tensor:
        """Record the inputs, then compute the loss."""
        self.calls.append((scores.detach().clone(), target.clone()))
        return self.loss(scores, target)


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> dict[str, RecordingLoss]:
    """Cross-entropy and Dice, replaced by recording ones."""
    losses = {name: RecordingLoss(name) for name in ("ce", "dice")}
    for name, loss in losses.items():
        monkeypatch.setitem(LOSSES, name, loss)
    return losses


def test_arms_of_a_seed_differ_in_their_loss_only(
    data: Path, recorders: dict[str, RecordingLoss]
) -> None:
    """Steps, frames, crops and initial weights are the same: without learning, scores are equal.

    Equal scores at every step mean equal weights, equal images and the same dropped channels.
    """
    for name in recorders:
        train(data, name, loss=name, learning_rate=1e-30)
    ce, dice = (recorder.calls for recorder in recorders.values())
    assert 3 == len(ce) == len(dice)
    for (ce_scores, ce_target), (dice_scores, dice_target) in zip(ce, dice, strict=True):
        torch.testing.assert_close(ce_scores, dice_scores, rtol=0, atol=0)
        torch.testing.assert_close(ce_target, dice_target, rtol=0, atol=0)


def test_seeds_differ_in_weights_and_batches(
    data: Path, recorders: dict[str, RecordingLoss]
) -> None:
    """With another seed both the first scores and the later labels differ."""
    for seed in (0, 1):
        train(data, f"ce-{seed}", seed=seed, learning_rate=1e-30)
    calls = recorders["ce"].calls
    assert not torch.equal(calls[0][0], calls[3][0])
    assert not torch.equal(calls[1][1], calls[4][1])


def test_gradients_are_measured_at_the_initial_weights_of_training(data: Path) -> None:
    """The initial model of `gradients` equals the final model of an arm that hardly learned."""
    train(data, "ce", seed=3, learning_rate=1e-30, weight_decay=0.0)
    initial = load_initial_model(data / "ce", 3, data / "pretrained")
    parameters = dict(load(data / "ce").named_parameters())
    for name, parameter in initial.named_parameters():
        torch.testing.assert_close(parameter, parameters[name], rtol=0, atol=1e-12)
