import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segformer.cityscapes import IGNORE
from segformer.explain.class_gradients import (
    LAYERS,
    ClassGradients,
    compute_gradient,
    gradients_by_class,
    layer_groups,
)
from segformer.inference.segment import resize_scores
from segformer.losses import LOSSES
from segformer.model.segformer import SegFormer


@pytest.fixture(scope="module")
def model() -> SegFormer:
    """The smallest network, with a narrow decoder and without randomness."""
    torch.manual_seed(0)
    return SegFormer("b0", num_classes=3, decoder_width=8, drop_path=0, dropout=0)


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    """Two noise images of classes 0 and 2, class 2 in one corner, and some void."""
    images = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    target = torch.zeros(2, 32, 40, dtype=torch.int64)
    target[0, :8, :8] = 2
    target[1, 20:] = IGNORE
    return images, target


@pytest.fixture(scope="module")
def gradients(model: SegFormer, batch: tuple[Tensor, Tensor]) -> dict[str, ClassGradients]:
    """The class gradients of cross-entropy and Dice."""
    return gradients_by_class(model, *batch, {name: LOSSES[name] for name in ("ce", "dice")})


@pytest.mark.parametrize("name", ["ce", "dice"])
def test_parts_sum_to_the_gradient_of_backward(
    model: SegFormer, batch: tuple[Tensor, Tensor], gradients: dict[str, ClassGradients], name: str
) -> None:
    """The sum over the classes equals the gradient of `backward` at the parameters."""
    images, target = batch
    model.zero_grad()
    LOSSES[name](resize_scores(model.train()(images), target.shape[-2:]), target).backward()
    expected = [p.grad for group in layer_groups(model) for p in group]
    flat = torch.cat([gradient.flatten() for gradient in expected if gradient is not None])
    torch.testing.assert_close(flat, gradients[name].total_gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(flat, compute_gradient(model, *batch, LOSSES[name]))
    assert float(flat.double().norm()) == pytest.approx(float(gradients[name].total_l2.norm()))


def test_class_gradient_is_that_of_its_pixels(
    model: SegFormer, batch: tuple[Tensor, Tensor], gradients: dict[str, ClassGradients]
) -> None:
    """Cross-entropy is a sum over pixels: the part of a class is the gradient of its pixels."""
    images, target = batch
    scores = resize_scores(model.train()(images), target.shape[-2:])
    costs = F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="none")
    of_class = costs[target == 2].sum() / (target != IGNORE).sum()
    groups = layer_groups(model)
    for index, group in enumerate(groups):
        parts = torch.autograd.grad(of_class, group, retain_graph=True)
        expected = torch.cat([gradient.flatten() for gradient in parts]).double().norm()
        assert float(expected) == pytest.approx(float(gradients["ce"].layer_l2[2, index]), rel=1e-4)


def test_logit_gradient_of_cross_entropy_by_hand(
    model: SegFormer, batch: tuple[Tensor, Tensor], gradients: dict[str, ClassGradients]
) -> None:
    """A pixel's |dL/ds| sum to 2 (1 - p of its class), divided by the number of pixels."""
    images, target = batch
    with torch.no_grad():
        scores = resize_scores(model.train()(images), target.shape[-2:])
    lacking = 1 - scores.softmax(1).gather(1, target.where(target != IGNORE, 0)[:, None])[:, 0]
    lacking = 2 * lacking / (target != IGNORE).sum()
    expected = [lacking[target == c].sum() for c in (0, 2)]
    torch.testing.assert_close(torch.stack(expected), gradients["ce"].logit_l1[[0, 2]])
    is_wrong = (scores.argmax(1) != target) & (target != IGNORE)
    share = lacking[is_wrong].sum() / lacking[target != IGNORE].sum()
    assert share == pytest.approx(gradients["ce"].wrong_share, rel=1e-5)
    wrong = is_wrong.sum() / (target != IGNORE).sum()
    assert wrong == pytest.approx(gradients["ce"].error_rate)


def test_class_without_pixels_is_nan(gradients: dict[str, ClassGradients]) -> None:
    """Class 1 does not occur: nan, not 0, everywhere; the others have values."""
    for part in gradients.values():
        assert [False, True, False] == part.logit_l1.isnan().tolist()
        assert [False, True, False] == part.layer_l2.isnan().all(1).tolist()


def test_dice_gives_a_rare_class_a_larger_share(gradients: dict[str, ClassGradients]) -> None:
    """With random weights 64 pixels among 1,900 have a larger share with Dice than with CE."""
    ce, dice = (
        gradients[name].logit_l1[2] / gradients[name].logit_l1.nansum() for name in gradients
    )
    assert 2 * ce < dice


def test_every_parameter_is_in_one_group(model: SegFormer) -> None:
    """The groups are those of LAYERS; each parameter is in exactly one."""
    held = [id(parameter) for group in layer_groups(model) for parameter in group]
    assert len(LAYERS) == len(layer_groups(model))
    assert sorted(map(id, model.parameters())) == sorted(held)
