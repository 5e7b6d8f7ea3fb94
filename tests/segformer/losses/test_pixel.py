import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.losses import get_loss
from segformer.losses.pixel import FOCAL_GAMMA
from tests.reference.scenes import (
    VOID,
    make_class_weights,
    make_perfect_scores,
    random_loss_inputs,
    value_and_gradient,
)


def make_row(*probabilities: float) -> tuple[Tensor, Tensor]:
    """One row of pixels of class 0 with these probabilities of it; two classes."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    scores = torch.stack([p.logit(), torch.zeros_like(p)])
    return scores[None, :, None], torch.zeros(1, 1, len(p), dtype=torch.int64)


def test_cross_entropy_equals_pytorch() -> None:
    """The same value and gradient, over the labeled pixels."""
    scene = random_loss_inputs()
    expected, slope = value_and_gradient(
        lambda s, t: F.cross_entropy(s, t, ignore_index=VOID), scene.scores, scene.target
    )
    value, gradient = value_and_gradient(get_loss("ce"), scene.scores, scene.target)
    torch.testing.assert_close(expected, value)
    torch.testing.assert_close(slope, gradient)


def test_cross_entropy_by_hand() -> None:
    """Two equal scores cost ln 2 per pixel, for any share of void."""
    target = torch.tensor([[[0, 1, VOID, VOID]]])
    assert math.log(2) == pytest.approx(get_loss("ce")(torch.zeros(1, 2, 1, 4), target).item())


def test_weighted_cross_entropy_equals_pytorch() -> None:
    """The same value and gradient, divided by the weights of the labeled pixels."""
    scene = random_loss_inputs()
    expected, slope = value_and_gradient(
        lambda s, t: F.cross_entropy(s, t, weight=make_class_weights(19), ignore_index=VOID),
        scene.scores,
        scene.target,
    )
    loss = get_loss("weighted_ce", make_class_weights(19))
    value, gradient = value_and_gradient(loss, scene.scores, scene.target)
    torch.testing.assert_close(expected, value)
    torch.testing.assert_close(slope, gradient)


def test_scale_of_the_weights_does_not_matter() -> None:
    """Weights a thousand times as large give the same loss."""
    scene = random_loss_inputs()
    first, second = (get_loss("weighted_ce", scale * make_class_weights(19)) for scale in (1, 1000))
    expected = first(scene.scores, scene.target)
    torch.testing.assert_close(expected, second(scene.scores, scene.target))


def test_image_of_classes_with_weight_zero() -> None:
    """The loss is 0 with a gradient of 0, not 0 / 0."""
    loss = get_loss("weighted_ce", torch.tensor([0.0, 0.0, 1.0]))
    value, gradient = value_and_gradient(
        loss, torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [1, VOID]]])
    )
    assert 0 == value
    assert 0 == gradient.abs().max()


def test_ohem_keeps_pixels_below_the_threshold() -> None:
    """Of 0.6, 0.2, 0.9 and 0.95 the first two count, averaged over two."""
    expected = (-math.log(0.6) - math.log(0.2)) / 2
    assert expected == pytest.approx(get_loss("ohem_ce")(*make_row(0.6, 0.2, 0.9, 0.95)).item())


@pytest.mark.parametrize(("pixels", "kept"), [(16, 1), (17, 2), (32, 2), (33, 3)])
def test_ohem_keeps_at_least_a_sixteenth(pixels: int, kept: int) -> None:
    """All are easy: the hardest sixteenth is kept, rounded up."""
    probabilities = [0.8 + 0.005 * i for i in range(pixels)]
    expected = sum(-math.log(p) for p in probabilities[:kept]) / kept
    assert expected == pytest.approx(get_loss("ohem_ce")(*make_row(*probabilities[::-1])).item())


def test_ohem_keeps_all_ties() -> None:
    """Sixteen easy pixels, the two hardest equal: both are kept, so their order does not matter."""
    _, gradient = value_and_gradient(get_loss("ohem_ce"), *make_row(0.8, *[0.9] * 14, 0.8))
    learning = gradient[0, 0, 0].abs() > 0
    assert [True, *[False] * 14, True] == learning.tolist()


def test_ohem_does_not_count_void() -> None:
    """31 void pixels and one easy one: a sixteenth of one pixel is that pixel."""
    scores, target = make_row(0.9, *[0.001] * 31)
    target[..., 1:] = VOID
    assert -math.log(0.9) == pytest.approx(get_loss("ohem_ce")(scores, target).item())


def test_ohem_ties_do_not_include_void() -> None:
    """One hard pixel, 31 with loss 0, which all tie, and 32 of void: a mean over 32."""
    target = torch.zeros(1, 1, 64, dtype=torch.int64)
    scores = make_perfect_scores(target, 2, margin=1e3)
    scores[0, :, 0, 0] = 0
    target[..., 32:] = VOID
    assert math.log(2) / 32 == pytest.approx(get_loss("ohem_ce")(scores, target).item())


def test_ohem_easy_pixels_have_no_gradient() -> None:
    """The gradient is 0 at easy pixels, and not at hard ones."""
    _, gradient = value_and_gradient(get_loss("ohem_ce"), *make_row(0.5, 0.99))
    assert [True, False] == (gradient[0, 0, 0].abs() > 0).tolist()


def test_focal_loss_by_hand() -> None:
    """With p = 1/2 a quarter of ln 2; with p = 0.9 a hundredth of the cross-entropy."""
    loss = get_loss("focal")
    assert 2 == FOCAL_GAMMA
    assert math.log(2) / 4 == pytest.approx(loss(*make_row(0.5)).item())
    assert -math.log(0.9) / 100 == pytest.approx(loss(*make_row(0.9)).item())
