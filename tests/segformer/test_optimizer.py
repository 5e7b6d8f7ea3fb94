import pytest
import torch
from torch import nn

from segformer.optimizer import adamw, parameter_groups


class Small(nn.Module):
    """An encoder and a decoder with every kind of parameter there is."""

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


def rates(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by parameter name."""
    groups = parameter_groups(model, lr=1.0, decoder_lr_factor=10.0, weight_decay=0.5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    pairs = [(names[id(p)], (g["lr"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert len(pairs) == len(dict(pairs))  # none twice
    return dict(pairs)


def test_every_parameter_has_its_rate_and_decay() -> None:
    """Norms and biases do not decay; the decoder learns ten times as fast."""
    assert EXPECTED == rates(Small())


def test_frozen_parameters_are_left_out() -> None:
    """What needs no gradient is in no group."""
    model = Small()
    model.encoder.requires_grad_(False)
    assert {n: r for n, r in EXPECTED.items() if n.startswith("decoder")} == rates(model)


def test_a_parameter_elsewhere_is_refused() -> None:
    """It would silently never learn."""
    model = Small()
    model.extra = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"extra\.weight is neither in the encoder nor"):
        rates(model)


def test_adamw_moves_and_decays_as_told() -> None:
    """One step on a gradient of 1 is lr long; without gradient a matrix shrinks by lr x decay."""
    model = Small()
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


def test_the_betas_are_the_papers() -> None:
    """0.9 and 0.999, in every group."""
    optimizer = adamw(Small(), lr=1.0, decoder_lr_factor=10.0, weight_decay=0.5)
    assert {(0.9, 0.999)} == {group["betas"] for group in optimizer.param_groups}
