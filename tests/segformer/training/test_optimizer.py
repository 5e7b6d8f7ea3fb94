import copy

import pytest
import torch
from torch import nn

from segformer.model.segformer import SegFormer
from segformer.training.optimizer import OPTIMIZERS, adam, adamw, parameter_groups


class SmallModel(nn.Module):
    """An encoder and a decoder with every kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm(4), nn.Linear(4, 4))
        self.decoder = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))


EXPECTED = {
    "encoder.0.weight": (1.0, 0.5),
    "encoder.0.bias": (1.0, 0.0),
    "encoder.1.weight": (1.0, 0.0),
    "encoder.1.bias": (1.0, 0.0),
    "encoder.2.weight": (1.0, 0.5),
    "encoder.2.bias": (1.0, 0.0),
    "decoder.0.weight": (10.0, 0.5),
    "decoder.0.bias": (10.0, 0.0),
    "decoder.1.weight": (10.0, 0.0),
    "decoder.1.bias": (10.0, 0.0),
}
"""Learning rate and weight decay of every parameter, by hand."""


def rates_by_name(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by parameter name."""
    groups = parameter_groups(model, lr=1.0, decoder_lr_factor=10.0, weight_decay=0.5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    pairs = [(names[id(p)], (g["lr"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert len(pairs) == len(dict(pairs))  # none twice
    return dict(pairs)


def test_every_parameter_has_its_rate_and_decay() -> None:
    """Norms and biases do not decay; the decoder's learning rate is ten times as high."""
    assert EXPECTED == rates_by_name(SmallModel())


def test_frozen_parameters_are_in_no_group() -> None:
    """Parameters that require no gradient are in no group."""
    model = SmallModel()
    model.encoder.requires_grad_(False)
    assert {n: r for n, r in EXPECTED.items() if n.startswith("decoder")} == rates_by_name(model)


def test_parameter_outside_encoder_and_decoder_is_refused() -> None:
    """It would silently never be trained."""
    model = SmallModel()
    model.extra = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"extra\.weight is neither in the encoder nor"):
        rates_by_name(model)


def test_adamw_step() -> None:
    """With gradient 1 a step has length lr; without gradient a matrix shrinks by lr x decay."""
    model = SmallModel()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    model.encoder[1].weight.grad.fill_(1.0)
    optimizer = adamw(model, lr=0.01, decoder_lr_factor=10.0, weight_decay=0.5)
    optimizer.step()

    after = {name: p.flatten()[0].item() for name, p in model.named_parameters()}
    assert 1 - 0.01 == pytest.approx(after.pop("encoder.1.weight"))
    assert 1 - 0.01 * 0.5 == pytest.approx(after.pop("encoder.0.weight"))
    assert 1 - 0.01 * 0.5 == pytest.approx(after.pop("encoder.2.weight"))
    assert 1 - 0.1 * 0.5 == pytest.approx(after.pop("decoder.0.weight"))
    assert {1.0} == set(after.values())


def test_betas_are_those_of_the_paper() -> None:
    """0.9 and 0.999, in every group."""
    optimizer = adamw(SmallModel(), lr=1.0, decoder_lr_factor=10.0, weight_decay=0.5)
    assert {(0.9, 0.999)} == {group["betas"] for group in optimizer.param_groups}


def test_adam_step_includes_the_decay_in_the_gradient() -> None:
    """Its first step has length lr in any case, also if only the decay contributes."""
    model = SmallModel()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    model.encoder[1].weight.grad.fill_(-3.0)
    adam(model, lr=0.01, decoder_lr_factor=10.0, weight_decay=0.5).step()

    after = {name: p.flatten()[0].item() for name, p in model.named_parameters()}
    assert 1 + 0.01 == pytest.approx(after.pop("encoder.1.weight"))
    assert 1 - 0.01 == pytest.approx(after.pop("encoder.0.weight"))
    assert 1 - 0.01 == pytest.approx(after.pop("encoder.2.weight"))
    assert 1 - 0.1 == pytest.approx(after.pop("decoder.0.weight"))
    assert {1.0} == set(after.values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_kernel_on_cpu(name: str) -> None:
    """On a CPU the fused kernel is used, and agrees with the plain loop."""
    torch.manual_seed(0)
    model = SmallModel()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    plain = copy.deepcopy(model)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        theirs.grad = ours.grad.clone()
    optimizer = OPTIMIZERS[name](model, lr=0.01, decoder_lr_factor=10.0, weight_decay=0.5)
    groups = parameter_groups(plain, lr=0.01, decoder_lr_factor=10.0, weight_decay=0.5)
    reference = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name](groups, foreach=False)
    optimizer.step()
    reference.step()

    assert {True} == {group["fused"] for group in optimizer.param_groups}
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-7)


def test_devices_without_fused_kernel_use_the_plain_loop() -> None:
    """Meta parameters represent a device without a fused kernel."""
    optimizer = adamw(SmallModel().to("meta"), lr=1.0, decoder_lr_factor=10.0, weight_decay=0.5)
    assert {False} == {group["fused"] for group in optimizer.param_groups}


IN_EVERY_STAGE_OF_B0 = (
    "patch.projection",
    "blocks.0.attention.query",
    "blocks.0.attention.key_value",
    "blocks.0.attention.output",
    "blocks.0.feed_forward.widen",
    "blocks.0.feed_forward.neighbours",
    "blocks.0.feed_forward.narrow",
    "blocks.1.attention.query",
    "blocks.1.attention.key_value",
    "blocks.1.attention.output",
    "blocks.1.feed_forward.widen",
    "blocks.1.feed_forward.neighbours",
    "blocks.1.feed_forward.narrow",
)
DECAYED_IN_B0 = {
    *(f"encoder.stages.{s}.{module}.weight" for s in range(4) for module in IN_EVERY_STAGE_OF_B0),
    "encoder.stages.0.blocks.0.attention.reduction.weight",
    "encoder.stages.0.blocks.1.attention.reduction.weight",
    "encoder.stages.1.blocks.0.attention.reduction.weight",
    "encoder.stages.1.blocks.1.attention.reduction.weight",
    "encoder.stages.2.blocks.0.attention.reduction.weight",
    "encoder.stages.2.blocks.1.attention.reduction.weight",
    "decoder.unify.0.weight",
    "decoder.unify.1.weight",
    "decoder.unify.2.weight",
    "decoder.unify.3.weight",
    "decoder.mix.weight",
    "decoder.classify.weight",
}
"""The matrices and kernels of B0; all else in it is a norm or a bias."""


def test_groups_of_b0() -> None:
    """Exactly the matrices and kernels of B0 decay; exactly its decoder has the higher rate."""
    with torch.device("meta"):
        model = SegFormer("b0", num_classes=19)
    ours = rates_by_name(model)
    assert {name for name, (_, decay) in ours.items() if decay} == DECAYED_IN_B0
    assert {name for name, (lr, _) in ours.items() if lr == 10.0} == {
        name for name, _ in model.named_parameters() if name.startswith("decoder.")
    }
    assert len(list(model.parameters())) == len(ours)
