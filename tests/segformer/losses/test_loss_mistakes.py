"""Mistakes that others made in their losses, each beside a check that sees it.

A mistaken form is written from what it does wrong, not copied. Every check is run on it too and
must fail there; otherwise it would prove nothing about ours.
"""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.losses import Loss
from tests.reference.scenes import LOSS_NAMES, VOID, make_loss, make_perfect_scores

Check = Callable[[Loss], None]
K = 19
BICYCLE = 18

every_loss = pytest.mark.parametrize("name", LOSS_NAMES)
overlap_losses = pytest.mark.parametrize("name", ["dice", "log_dice", "jaccard"])


def class_sums(scores: Tensor, truth: Tensor, is_counted: Tensor) -> tuple[Tensor, Tensor]:
    """Per class, (k,) each: 2 sum(p t) and sum(p) + sum(t) where `is_counted` (b, h, w)."""
    p = scores.softmax(1)
    shared = (p * truth * is_counted[:, None]).sum(dim=(0, 2, 3))
    return 2 * shared, (p * is_counted[:, None] + truth).sum(dim=(0, 2, 3))


def one_hot(target: Tensor) -> Tensor:
    """(b, h, w) classes -> (b, k, h, w)."""
    return F.one_hot(target, K).permute(0, 3, 1, 2).float()


def void_clamped_to_the_last_class(scores: Tensor, target: Tensor) -> Tensor:
    """An early mmsegmentation Dice: 255 becomes the true class 18."""
    shared, both = class_sums(scores, one_hot(target.clamp(0, K - 1)), target != VOID)
    return (1 - (shared + 1) / (both + 1)).mean()


def ignored_channel_255(scores: Tensor, target: Tensor) -> Tensor:
    """A later one: there is no *channel* 255 to ignore, void counts, all classes are one sum."""
    truth = one_hot(target.clamp(0, K - 1))
    channels = [c for c in range(K) if c != VOID]
    shared, both = class_sums(scores[:, channels], truth[:, channels], torch.ones_like(target))
    return 1 - shared.sum() / both.sum()


def void_overwritten(scores: Tensor, target: Tensor) -> Tensor:
    """PaddleSeg's Dice: a correct mask, but made by writing 0 over void in the caller's labels."""
    is_labeled = target != VOID
    target[~is_labeled] = 0
    shared, both = class_sums(scores, one_hot(target) * is_labeled[:, None], is_labeled)
    is_present = (one_hot(target) * is_labeled[:, None]).sum(dim=(0, 2, 3)) > 0
    return (1 - shared / both.clamp(min=1e-6))[is_present].mean()


def absent_classes_in_the_mean(scores: Tensor, target: Tensor) -> Tensor:
    """segmentation_models_pytorch's Dice: an absent class costs 0, but counts in the divisor."""
    is_labeled = target != VOID
    k = scores.shape[1]
    truth = F.one_hot(target.where(is_labeled, 0), k).permute(0, 3, 1, 2) * is_labeled[:, None]
    shared, both = class_sums(scores, truth, is_labeled)
    is_present = truth.sum(dim=(0, 2, 3)) > 0
    return ((1 - shared / both.clamp(min=1e-6)) * is_present).mean()


def mean_over_void_too(scores: Tensor, target: Tensor) -> Tensor:
    """Mmsegmentation's cross-entropy: void costs 0, but counts in the divisor."""
    return F.cross_entropy(scores, target, ignore_index=VOID, reduction="none").mean()


def check_void_is_not_the_last_class(loss: Loss) -> None:
    """Two bicycle pixels beside void and some road, perfectly predicted: the loss is 0."""
    target = torch.full((1, 8, 8), VOID)
    target[0, 0, :2] = BICYCLE
    target[0, 1] = 0
    assert 0 == pytest.approx(loss(make_perfect_scores(target), target).item(), abs=1e-3)


def check_classes_are_balanced(loss: Loss) -> None:
    """With p = 1/2 at all pixels of one class, 1 elsewhere, a rare class has the same loss."""
    values = []
    for pixels in (1, 32):
        target = torch.zeros(1, 8, 8, dtype=torch.int64)
        target.view(-1)[:pixels] = BICYCLE
        half_sure = make_perfect_scores(target) * (target != BICYCLE)[:, None]
        half_sure[:, 1:BICYCLE] = -40
        values.append(loss(half_sure, target).item())
    rare, frequent = values
    assert rare > frequent / 2


def check_void_does_not_count(loss: Loss) -> None:
    """An image beside the same amount of void, with any prediction there, has the same loss."""
    target = torch.tensor([[[0, 0, 3, 3]]])
    scores = torch.linspace(-1, 1, K * 4).reshape(1, K, 1, 4)
    beside = torch.cat([scores, 9 * scores.flip(1)], dim=3)
    beside_target = torch.cat([target, torch.full_like(target, VOID)], dim=2)
    expected = loss(scores, target).item()
    assert expected == pytest.approx(loss(beside, beside_target).item(), rel=1e-5)


def check_labels_are_not_modified(loss: Loss) -> None:
    """The caller's labels are unchanged."""
    target = torch.tensor([[[0, VOID, 3, VOID]]])
    before = target.clone()
    loss(make_perfect_scores(target), target)
    assert torch.equal(before, target)


def check_the_scale_does_not_depend_on_absent_classes(loss: Loss) -> None:
    """An image of two classes has the same loss if the network knows no others."""
    target = torch.tensor([[[0, 0, 1, 1]]])
    two = torch.tensor([0.3, -0.2]).reshape(1, 2, 1, 1).expand(1, 2, 1, 4)
    nineteen = F.pad(two, (0, 0, 0, 0, 0, K - 2), value=-1e4)
    assert loss(two, target).item() == pytest.approx(loss(nineteen, target).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("mistaken", "check"),
    [
        (void_clamped_to_the_last_class, check_void_is_not_the_last_class),
        (ignored_channel_255, check_classes_are_balanced),
        (ignored_channel_255, check_void_does_not_count),
        (void_overwritten, check_labels_are_not_modified),
        (absent_classes_in_the_mean, check_the_scale_does_not_depend_on_absent_classes),
        (mean_over_void_too, check_void_does_not_count),
    ],
)
def test_check_fails_on_the_mistake(mistaken: Loss, check: Check) -> None:
    """The check fails on the mistaken form."""
    with pytest.raises(AssertionError):
        check(mistaken)


@every_loss
def test_void_is_not_the_last_class(name: str) -> None:
    """An early mmsegmentation Dice gave 0.06 Dice for this perfect prediction of bicycle."""
    check_void_is_not_the_last_class(make_loss(name, K))


def test_early_dice_gives_the_reported_number() -> None:
    """A perfect bicycle of 2 pixels beside 62 of void: 4 of 66 shared, 0.06."""
    target = torch.full((1, 8, 8), VOID)
    target[0, 0, :2] = BICYCLE
    shared, both = class_sums(
        make_perfect_scores(target), one_hot(target.clamp(0, K - 1)), target != VOID
    )
    assert 0.06 == pytest.approx((shared / both)[BICYCLE].item(), abs=0.005)


@overlap_losses
def test_classes_are_balanced(name: str) -> None:
    """A later mmsegmentation Dice merged all classes into one sum, which hides a rare one."""
    check_classes_are_balanced(make_loss(name, K))


@every_loss
def test_void_does_not_count(name: str) -> None:
    """Mmsegmentation's cross-entropy divides by void pixels too; its later Dice adds them."""
    check_void_does_not_count(make_loss(name, K))


@every_loss
def test_labels_are_not_modified(name: str) -> None:
    """PaddleSeg's Dice writes 0 over void, so that the next reader trains road there."""
    check_labels_are_not_modified(make_loss(name, K))


@every_loss
def test_the_scale_does_not_depend_on_absent_classes(name: str) -> None:
    """segmentation_models_pytorch's Dice would be 9.5 times smaller with 19 classes than with 2."""
    loss_of = {k: make_loss(name, k) for k in (2, K)}
    check_the_scale_does_not_depend_on_absent_classes(
        lambda scores, target: loss_of[scores.shape[1]](scores, target)
    )


def test_mean_over_void_scales_the_loss() -> None:
    """The mistaken cross-entropy is ours times the share of labeled pixels."""
    target = torch.tensor([[[0, 1, VOID, VOID]]])
    value = mean_over_void_too(torch.zeros(1, 2, 1, 4), target).item()
    assert math.log(2) / 2 == pytest.approx(value)
