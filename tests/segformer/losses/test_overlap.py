import math

import pytest
import torch
from hypothesis import given
from torch import Tensor

from segformer.losses import CE_DICE, CE_JACCARD, get_loss
from segformer.metrics.confusion import class_iou, confusion_matrix
from tests.reference.scenes import (
    VOID,
    LossInputs,
    few_examples,
    loss_inputs,
    make_perfect_scores,
    random_loss_inputs,
    value_and_gradient,
)

overlap_losses = pytest.mark.parametrize("name", ["dice", "log_dice", "jaccard"])


def uniform_scores() -> tuple[Tensor, Tensor]:
    """Two classes with probability 1/2 each; three pixels of class 0 and one of class 1.

    Intersection, predicted and actual sums are 1.5, 2, 3 for class 0 and 0.5, 2, 1 for class 1.
    """
    return torch.zeros(1, 2, 1, 4), torch.tensor([[[0, 0, 0, 1]]])


def test_dice_by_hand() -> None:
    """1 - 3/5 and 1 - 1/3, averaged."""
    expected = ((1 - 3 / 5) + (1 - 1 / 3)) / 2
    assert expected == pytest.approx(get_loss("dice")(*uniform_scores()).item())


def test_log_dice_by_hand() -> None:
    """-ln 3/5 and -ln 1/3, averaged."""
    expected = (math.log(5 / 3) + math.log(3)) / 2
    assert expected == pytest.approx(get_loss("log_dice")(*uniform_scores()).item())


def test_jaccard_by_hand() -> None:
    """1 - 1.5/3.5 and 1 - 0.5/2.5, averaged."""
    expected = ((1 - 1.5 / 3.5) + (1 - 0.5 / 2.5)) / 2
    assert expected == pytest.approx(get_loss("jaccard")(*uniform_scores()).item())


@few_examples
@given(scene=loss_inputs())
def test_jaccard_of_hard_predictions_is_one_minus_iou(scene: LossInputs) -> None:
    """With probabilities 0 or 1 it is the metric of the evaluation, over the classes present."""
    predicted = scene.scores.argmax(1)
    confusion = confusion_matrix(predicted, scene.target, scene.k)
    is_present = confusion.sum(1) > 0
    expected = (1 - class_iou(confusion))[is_present].sum() / max(1, is_present.sum())
    value = get_loss("jaccard")(
        make_perfect_scores(predicted, scene.k, margin=1e4).double(), scene.target
    )
    assert expected.item() == pytest.approx(value.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("mix", "overlap", "parts"),
    [("ce_dice", "dice", CE_DICE), ("ce_jaccard", "jaccard", CE_JACCARD)],
)
def test_combined_losses_are_weighted_sums(
    mix: str, overlap: str, parts: tuple[float, float]
) -> None:
    """In value and gradient."""
    scene = random_loss_inputs()
    value, gradient = value_and_gradient(get_loss(mix), scene.scores, scene.target)
    first, second = (
        value_and_gradient(get_loss(name), scene.scores, scene.target) for name in ("ce", overlap)
    )
    torch.testing.assert_close(parts[0] * first[0] + parts[1] * second[0], value)
    torch.testing.assert_close(parts[0] * first[1] + parts[1] * second[1], gradient)


@overlap_losses
def test_sums_run_over_the_whole_batch(name: str) -> None:
    """Two images count as one of twice the size, not as the mean of second losses."""
    scene = random_loss_inputs()
    wide_scores = torch.cat([*scene.scores.split(1)], dim=3)
    wide_target = torch.cat([*scene.target.split(1)], dim=2)
    first, second = (
        get_loss(name)(scene.scores, scene.target),
        get_loss(name)(wide_scores, wide_target),
    )
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("name", ["dice", "jaccard"])
def test_predictions_of_an_absent_class_increase_the_loss(name: str) -> None:
    """If everything is predicted as an absent class, the loss is its maximum, 1."""
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    value = get_loss(name)(make_perfect_scores(torch.full_like(target, 5)), target)
    assert 1 == pytest.approx(value.item())


def test_log_dice_is_finite_without_overlap() -> None:
    """A class missed by a margin of 1000: p is 0 in float32, but log Dice is finite and correct."""
    target = torch.tensor([[[0, 0, 1, 1]]])
    scores = make_perfect_scores(torch.zeros_like(target), 2, margin=1000.0)
    # Class 0: 2 shared, 4 predicted, 2 actual. Class 1: 2 e^-1000, nothing, 2 actual.
    expected = (-math.log(4 / 6) + 1000 - math.log(4 / 2)) / 2
    value, gradient = value_and_gradient(get_loss("log_dice"), scores, target)
    assert expected == pytest.approx(value.item())
    # Half of the mean's share each, toward the class that was missed.
    torch.testing.assert_close(torch.tensor([-0.25, -0.25]), gradient[0, 1, 0, 2:])


def test_log_dice_of_infinite_scores_is_infinite() -> None:
    """A score of minus infinity comes from a broken network, and shows in the loss."""
    target = torch.tensor([[[0, 1]]])
    scores = torch.zeros(1, 2, 1, 2)
    scores[0, 1] = -torch.inf
    assert get_loss("log_dice")(scores, target).isinf()


@overlap_losses
def test_classes_count_alike_at_any_size(name: str) -> None:
    """One pixel of a class among 63: missing it costs as much as missing half of an image."""
    lonely = torch.zeros(1, 8, 8, dtype=torch.int64)
    lonely[0, 0, 0] = 1
    half = torch.zeros(1, 8, 8, dtype=torch.int64)
    half[0, :4] = 1
    scores = torch.zeros(1, 2, 8, 8)
    scores[:, 1] = -math.log(1000)
    small, large = get_loss(name)(scores, lonely), get_loss(name)(scores, half)
    assert VOID not in lonely
    assert 0.3 < small.item() / large.item() < 3
