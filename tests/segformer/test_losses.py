import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.losses import LOSSES, Loss, get_loss

VOID = 255


@pytest.fixture(params=sorted(LOSSES))
def loss(request: pytest.FixtureRequest) -> Loss:
    """Every loss there is: what follows must hold for all."""
    return LOSSES[request.param]


def example(seed: int = 0, k: int = 19, *, void: bool = True) -> tuple[Tensor, Tensor]:
    """Random scores (2, k, 6, 8) and labels, about a quarter of them void."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, k, 6, 8, generator=generator)
    target = torch.randint(0, k, (2, 6, 8), generator=generator)
    if void:
        target[torch.rand(2, 6, 8, generator=generator) < 0.25] = VOID
    return scores, target


def perfect(target: Tensor, k: int = 19, *, margin: float = 40.0) -> Tensor:
    """Scores that give every labelled pixel its class, and every void one class 0."""
    one_hot = F.one_hot(target.where(target != VOID, 0), k)
    return margin * one_hot.permute(0, 3, 1, 2).float()


def value_and_gradient(loss: Loss, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient with respect to the scores."""
    scores = scores.clone().requires_grad_()
    value = loss(scores, target)
    value.backward()
    return value.detach(), scores.grad


def test_void_changes_no_value(loss: Loss) -> None:
    """Whatever is predicted at void pixels, the loss is the same to the last bit."""
    scores, target = example()
    is_void = (target == VOID)[:, None]
    expected = loss(scores, target)
    assert expected == loss(scores.where(~is_void, 100 * torch.rand_like(scores)), target)


def test_void_has_no_gradient_and_changes_none(loss: Loss) -> None:
    """The gradient is exactly 0 at void, and elsewhere what it is with other scores there."""
    scores, target = example()
    is_void = (target == VOID)[:, None].expand_as(scores)
    _, gradient = value_and_gradient(loss, scores, target)
    _, other = value_and_gradient(loss, scores.where(~is_void, 7 * scores + 3), target)

    assert 0 == gradient[is_void].abs().max()
    assert 0 < gradient[~is_void].abs().min()
    assert torch.equal(gradient, other)


def test_labels_stay_as_they_are(loss: Loss) -> None:
    """The caller's labels are not written to."""
    scores, target = example()
    before = target.clone()
    value_and_gradient(loss, scores, target)
    assert torch.equal(before, target)


def test_a_perfect_prediction_reaches_the_minimum(loss: Loss) -> None:
    """Sure and right everywhere, void included in the picture, the loss is 0."""
    _, target = example()
    assert 1e-6 > loss(perfect(target), target)


def test_surer_of_the_truth_is_better(loss: Loss) -> None:
    """The loss falls as the margin of the right class grows."""
    _, target = example()
    values = [loss(perfect(target, margin=margin), target).item() for margin in (0, 1, 3, 9)]
    assert sorted(values, reverse=True) == values
    assert 4 == len(set(values))


def test_a_batch_of_void_is_zero_with_zero_gradient(loss: Loss) -> None:
    """Nothing labelled: nothing to learn, and no nan."""
    scores, target = example()
    value, gradient = value_and_gradient(loss, scores, torch.full_like(target, VOID))
    assert 0 == value
    assert 0 == gradient.abs().max()


def test_scores_of_ten_thousand_are_finite(loss: Loss) -> None:
    """Neither value nor gradient overflows."""
    scores, target = example()
    value, gradient = value_and_gradient(loss, 1e4 * scores, target)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_bf16_is_computed_in_float32(loss: Loss) -> None:
    """Scores in bf16 give the loss of the same scores in float32, and a finite bf16 gradient."""
    scores, target = example()
    scores = scores.bfloat16()
    value, gradient = value_and_gradient(loss, scores, target)
    assert torch.float32 == value.dtype
    assert loss(scores.float(), target) == value
    assert torch.bfloat16 == gradient.dtype
    assert gradient.isfinite().all()


def test_autocast_does_not_coarsen_it(loss: Loss) -> None:
    """Within a bf16 autocast region the value is the float32 one."""
    scores, target = example()
    expected = loss(scores, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert expected == loss(scores, target)


def test_the_gradient_is_the_slope(loss: Loss) -> None:
    """PyTorch's finite differences agree, in float64."""
    scores, target = example(k=4)
    scores, target = scores[:, :, :2, :3].double().requires_grad_(), target[:, :2, :3]
    assert torch.autograd.gradcheck(lambda x: loss(x, target), scores)


def test_a_loss_has_no_grain(loss: Loss) -> None:
    """A million pixels summed in float32 agree with float64 to a millionth."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(1, 1024, 1024, dtype=torch.int64)
    target[:, :, ::8] = 1
    scores = perfect(target, 2, margin=5.0) + torch.rand(1, 2, 1024, 1024, generator=generator)
    expected = loss(scores.double(), target).item()
    assert expected == pytest.approx(loss(scores, target).item(), abs=1e-6)


def test_cross_entropy_is_pytorchs_over_the_labelled_pixels() -> None:
    """The mean over labelled pixels; averaged over void too it would be a quarter too small."""
    scores, target = example()
    expected = F.cross_entropy(scores, target, ignore_index=VOID)
    assert expected.item() == pytest.approx(get_loss("ce")(scores, target).item(), rel=1e-6)


def test_cross_entropy_by_hand() -> None:
    """Two equal scores cost ln 2 per pixel, whatever the share of void."""
    target = torch.tensor([[[0, 1, VOID, VOID]]])
    assert math.log(2) == pytest.approx(get_loss("ce")(torch.zeros(1, 2, 1, 4), target).item())


def slow_dice(scores: Tensor, target: Tensor) -> float:
    """Dice from its formula, one pixel at a time, in float64."""
    b, k, h, w = scores.shape
    both, predicted, actual = [0.0] * k, [0.0] * k, [0.0] * k
    for image in range(b):
        for row in range(h):
            for column in range(w):
                truth = int(target[image, row, column])
                if truth == VOID:
                    continue
                powers = [math.exp(float(s)) for s in scores[image, :, row, column].double()]
                for c in range(k):
                    p = powers[c] / sum(powers)
                    predicted[c] += p
                    both[c] += p * (c == truth)
                    actual[c] += c == truth
    present = [c for c in range(k) if actual[c] > 0]
    return sum(1 - 2 * both[c] / (predicted[c] + actual[c]) for c in present) / len(present)


@pytest.mark.parametrize("k", [2, 5, 19])
def test_dice_is_its_formula(k: int) -> None:
    """Loops over pixels and classes in float64 give the same."""
    scores, target = example(k, k)
    value = get_loss("dice")(scores.double(), target).item()
    assert slow_dice(scores, target) == pytest.approx(value, abs=1e-12)


def test_dice_by_hand() -> None:
    """Half sure everywhere, three pixels of class 0 and one of 1: 1 - 3/5 and 1 - 1/3, averaged."""
    target = torch.tensor([[[0, 0, 0, 1]]])
    value = get_loss("dice")(torch.zeros(1, 2, 1, 4), target).item()
    assert ((1 - 3 / 5) + (1 - 1 / 3)) / 2 == pytest.approx(value)


def test_dice_sums_over_the_batch_before_it_divides() -> None:
    """Two images are one picture of twice the size, not two losses averaged."""
    scores, target = example()
    wide_scores = torch.cat([*scores.split(1)], dim=3)
    wide_target = torch.cat([*target.split(1)], dim=2)
    one, two = get_loss("dice")(scores, target), get_loss("dice")(wide_scores, wide_target)
    assert one.item() == pytest.approx(two.item(), rel=1e-6)


def test_void_is_not_taken_for_the_last_class() -> None:
    """Bicycle (18) beside void is perfect; with 255 clamped to 18 its Dice would be about 0.06."""
    target = torch.full((1, 8, 8), VOID)
    target[0, 0, :2] = 18
    target[0, 1] = 0
    assert 1e-6 > get_loss("dice")(perfect(target), target)


def test_void_is_no_class_of_its_own() -> None:
    """Dice balances classes: one of two wholly missed costs half, however small it is."""
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    target[0, 0, 0] = 1
    target[0, 7] = VOID
    all_zero = perfect(torch.zeros_like(target), 19)
    # 1 is missed: Dice 0. Class 0 has 55 pixels, 56 predicted.
    expected = ((1 - 2 * 55 / (55 + 56)) + 1) / 2
    assert expected == pytest.approx(get_loss("dice")(all_zero, target).item(), rel=1e-5)


def test_absent_classes_do_not_change_the_scale() -> None:
    """The same picture costs the same with 2 classes in the network as with 19."""
    target = torch.tensor([[[0, 0, 1, 1]]])
    two = torch.tensor([0.3, -0.2]).reshape(1, 2, 1, 1).expand(1, 2, 1, 4)
    nineteen = F.pad(two, (0, 0, 0, 0, 0, 17), value=-1e4)
    few, many = get_loss("dice")(two, target), get_loss("dice")(nineteen, target)
    assert few.item() == pytest.approx(many.item())


def test_pixels_given_to_an_absent_class_still_cost() -> None:
    """Everything predicted as a class that is not there is the worst there is: 1."""
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    value = get_loss("dice")(perfect(torch.full_like(target, 5)), target)
    assert 1 == pytest.approx(value.item())


def test_an_unknown_loss_is_refused_with_the_choices() -> None:
    """The message names the wrong one and every right one."""
    with pytest.raises(ValueError, match=r"unknown loss 'dcie'; choose from ce, dice"):
        get_loss("dcie")
