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
    """The smallest network, with a narrow decoder and nothing left to chance."""
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
def pulls(model: SegFormer, batch: tuple[Tensor, Tensor]) -> dict[str, ClassGradients]:
    """Cross-entropy's and Dice's gradients, apart."""
    return gradients_by_class(model, *batch, {name: LOSSES[name] for name in ("ce", "dice")})


@pytest.mark.parametrize("name", ["ce", "dice"])
def test_the_parts_add_up_to_the_gradient_of_training(
    model: SegFormer, batch: tuple[Tensor, Tensor], pulls: dict[str, ClassGradients], name: str
) -> None:
    """The sum over the classes is what `backward` of the loss leaves at the parameters."""
    images, target = batch
    model.zero_grad()
    LOSSES[name](resize_scores(model.train()(images), target.shape[-2:]), target).backward()
    expected = [p.grad for group in layer_groups(model) for p in group]
    flat = torch.cat([gradient.flatten() for gradient in expected if gradient is not None])
    torch.testing.assert_close(flat, pulls[name].total_gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(flat, compute_gradient(model, *batch, LOSSES[name]))
    assert float(flat.double().norm()) == pytest.approx(float(pulls[name].total_l2.norm()))


def test_a_class_pulls_as_its_pixels_alone_do(
    model: SegFormer, batch: tuple[Tensor, Tensor], pulls: dict[str, ClassGradients]
) -> None:
    """Cross-entropy is a sum over pixels: a class's part is the gradient of its pixels' costs."""
    images, target = batch
    scores = resize_scores(model.train()(images), target.shape[-2:])
    costs = F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="none")
    of_class = costs[target == 2].sum() / (target != IGNORE).sum()
    groups = layer_groups(model)
    for place, group in enumerate(groups):
        gradients = torch.autograd.grad(of_class, group, retain_graph=True)
        expected = torch.cat([gradient.flatten() for gradient in gradients]).double().norm()
        assert float(expected) == pytest.approx(float(pulls["ce"].layer_l2[2, place]), rel=1e-4)


def test_cross_entropy_at_the_scores_by_hand(
    model: SegFormer, batch: tuple[Tensor, Tensor], pulls: dict[str, ClassGradients]
) -> None:
    """A pixel's |dL/ds| sum to twice the probability that its class lacks, over the pixels."""
    images, target = batch
    with torch.no_grad():
        scores = resize_scores(model.train()(images), target.shape[-2:])
    lacking = 1 - scores.softmax(1).gather(1, target.where(target != IGNORE, 0)[:, None])[:, 0]
    lacking = 2 * lacking / (target != IGNORE).sum()
    expected = [lacking[target == c].sum() for c in (0, 2)]
    torch.testing.assert_close(torch.stack(expected), pulls["ce"].logit_l1[[0, 2]])
    is_wrong = (scores.argmax(1) != target) & (target != IGNORE)
    share = lacking[is_wrong].sum() / lacking[target != IGNORE].sum()
    assert share == pytest.approx(pulls["ce"].wrong_share, rel=1e-5)
    wrong = is_wrong.sum() / (target != IGNORE).sum()
    assert wrong == pytest.approx(pulls["ce"].error_rate)


def test_a_class_without_pixels_is_not_measured(pulls: dict[str, ClassGradients]) -> None:
    """Class 1 does not occur: nan, not 0, everywhere; the others are measured."""
    for pull in pulls.values():
        assert [False, True, False] == pull.logit_l1.isnan().tolist()
        assert [False, True, False] == pull.layer_l2.isnan().all(1).tolist()


def test_dice_gives_a_rare_class_a_greater_share(pulls: dict[str, ClassGradients]) -> None:
    """At random weights Dice's mean over classes lifts 64 pixels among 1,900 above CE's share."""
    ce, dice = (pulls[name].logit_l1[2] / pulls[name].logit_l1.nansum() for name in pulls)
    assert 2 * ce < dice


def test_every_parameter_is_in_one_group(model: SegFormer) -> None:
    """The groups are those of LAYERS, and hold each parameter once."""
    held = [id(parameter) for group in layer_groups(model) for parameter in group]
    assert len(LAYERS) == len(layer_groups(model))
    assert sorted(map(id, model.parameters())) == sorted(held)
