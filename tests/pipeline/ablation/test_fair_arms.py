"""What the arms of one seed have in common, whatever their loss."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.stages.gradients import load_initial_model
from segformer.losses import LOSSES
from segformer.weights.checkpoint import load
from tests.pipeline.stages.test_train import data, train

__all__ = ["data"]  # the fixture


class Witness:
    """A loss that remembers what it was shown."""

    def __init__(self, name: str) -> None:
        self.loss = LOSSES[name]
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, scores: Tensor, target: Tensor) -> Tensor:
        """Remember, then do what the loss does."""
        self.seen.append((scores.detach().clone(), target.clone()))
        return self.loss(scores, target)


@pytest.fixture
def witnesses(monkeypatch: pytest.MonkeyPatch) -> dict[str, Witness]:
    """Cross-entropy and Dice, watched."""
    found = {name: Witness(name) for name in ("ce", "dice")}
    for name, witness in found.items():
        monkeypatch.setitem(LOSSES, name, witness)
    return found


def test_arms_of_a_seed_differ_in_their_loss_alone(
    data: Path, witnesses: dict[str, Witness]
) -> None:
    """The same steps, frames, crops and first weights: kept from learning, all scores are equal.

    Equal scores at every step mean equal weights and pictures, and the same channels dropped.
    """
    for name in witnesses:
        train(data, name, loss=name, learning_rate=1e-30)
    ce, dice = (witness.seen for witness in witnesses.values())
    assert 3 == len(ce) == len(dice)
    for (ce_scores, ce_target), (dice_scores, dice_target) in zip(ce, dice, strict=True):
        torch.testing.assert_close(ce_scores, dice_scores, rtol=0, atol=0)
        torch.testing.assert_close(ce_target, dice_target, rtol=0, atol=0)


def test_another_seed_begins_and_goes_on_otherwise(
    data: Path, witnesses: dict[str, Witness]
) -> None:
    """With another seed neither the first scores nor the labels that follow are the same."""
    for seed in (0, 1):
        train(data, f"ce-{seed}", seed=seed, learning_rate=1e-30)
    seen = witnesses["ce"].seen
    assert not torch.equal(seen[0][0], seen[3][0])
    assert not torch.equal(seen[1][1], seen[4][1])


def test_gradients_are_measured_at_the_weights_that_training_begins_with(data: Path) -> None:
    """What an arm that hardly learned ends with is what its start is drawn to be anew."""
    train(data, "ce", seed=3, learning_rate=1e-30, weight_decay=0.0)
    begun = load_initial_model(data / "ce", 3, data / "pretrained")
    parameters = dict(load(data / "ce").named_parameters())
    for name, parameter in begun.named_parameters():
        torch.testing.assert_close(parameter, parameters[name], rtol=0, atol=1e-12)
