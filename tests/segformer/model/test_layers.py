import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer.model.layers import (
    Attention,
    DropPath,
    FeedForward,
    PatchEmbedding,
    attend,
    drop_path_rates,
    init_weights,
)


def randomize(module: nn.Module) -> nn.Module:
    """The module with all parameters drawn at random, including biases and norms."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def test_linears_are_initialized_as_in_the_paper() -> None:
    """Weights of a linear have mean 0 and standard deviation 0.02; its bias is zero."""
    torch.manual_seed(0)
    layer = nn.Linear(400, 400)
    init_weights(layer)
    assert 0.02 == pytest.approx(layer.weight.std().item(), rel=0.02)
    assert 0 == pytest.approx(layer.weight.mean().item(), abs=2e-4)
    assert 0 == layer.bias.abs().max()


@pytest.mark.parametrize(("groups", "fan_out"), [(1, 9 * 256), (256, 9)])
def test_convolutions_are_initialized_by_fan_out_with_groups(groups: int, fan_out: int) -> None:
    """A depthwise convolution has a fan-out of 9, not 9 times its channels."""
    torch.manual_seed(0)
    layer = nn.Conv2d(256, 256, 3, groups=groups)
    init_weights(layer)
    assert math.sqrt(2 / fan_out) == pytest.approx(layer.weight.std().item(), rel=0.05)
    assert 0 == layer.bias.abs().max()


def test_drop_path_keeps_the_expectation_and_whole_images() -> None:
    """An image's branch is dropped or scaled as a whole, so that the expectation is unchanged."""
    torch.manual_seed(0)
    dropped = DropPath(0.25)(torch.ones(4000, 1, 1, 2))
    assert {0.0, round(1 / 0.75, 4)} == {round(value, 4) for value in dropped.unique().tolist()}
    assert torch.equal(dropped[..., 0], dropped[..., 1])
    assert 1 == pytest.approx(dropped.mean().item(), abs=0.03)


def test_drop_path_does_nothing_in_evaluation() -> None:
    """In evaluation every branch is unchanged."""
    branch = torch.randn(8, 1, 1, 2)
    assert torch.equal(branch, DropPath(0.9).eval()(branch.clone()))


def test_drop_path_rises_linearly_with_depth() -> None:
    """The first block never drops, the last one at the full rate, in equal steps."""
    assert [0.0, 0.1, 0.2, 0.3] == pytest.approx(drop_path_rates(0.3, 4))
    assert [0.0] == drop_path_rates(0.3, 1)


def test_patch_embedding_rounds_sizes_up() -> None:
    """An image of odd size keeps its last row and column."""
    embedding = PatchEmbedding(3, 8, kernel=7, stride=4)
    assert (1, 9, 10, 8) == embedding(torch.randn(1, 33, 37, 3)).shape


@pytest.mark.parametrize(("reduction", "heads"), [(1, 1), (1, 4), (2, 2)])
def test_attention_equals_the_textbook_formula(reduction: int, heads: int) -> None:
    """Attention equals the softmax of scaled products, written out with explicit scores."""
    torch.manual_seed(0)
    layer = randomize(Attention(8, heads=heads, reduction=reduction))
    grid = torch.randn(2, 5, 6, 8)
    source = grid
    if reduction > 1:
        reduced = F.conv2d(
            grid.permute(0, 3, 1, 2), layer.reduction.weight, layer.reduction.bias, reduction
        )
        source = layer.reduction_norm(reduced.permute(0, 2, 3, 1))

    def apart(tokens: Tensor) -> Tensor:
        return tokens.reshape(2, -1, heads, 8 // heads).transpose(1, 2)  # (b, a, n, d)

    key, value = layer.key_value(source).chunk(2, dim=-1)
    scores = apart(layer.query(grid)) @ apart(key).transpose(2, 3) / math.sqrt(8 // heads)
    mixed = (scores.softmax(-1) @ apart(value)).transpose(1, 2).reshape(2, 5, 6, 8)
    torch.testing.assert_close(layer.output(mixed), layer(grid), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("threads", "n"), [(1, 12), (2, 12), (4, 12), (4, 9)])
def test_attention_does_not_depend_on_the_number_of_threads(threads: int, n: int) -> None:
    """Splitting the queries between threads changes neither values nor gradients."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 1, n, 4), (2, 1, 5, 4), (2, 1, 5, 4))
    tensors = [torch.randn(size, generator=generator).requires_grad_() for size in sizes]
    expected = F.scaled_dot_product_attention(*tensors)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = attend(*tensors)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(expected, actual)
    for expected_gradient, gradient in zip(
        torch.autograd.grad(expected.square().sum(), tensors),
        torch.autograd.grad(actual.square().sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(expected_gradient, gradient)


def test_mix_ffn_has_a_receptive_field_of_3x3() -> None:
    """A change of one token changes only the 3x3 tokens around it."""
    torch.manual_seed(0)
    layer = randomize(FeedForward(4, 16))
    grid = torch.randn(1, 7, 7, 4)
    changed = grid.clone()
    changed[0, 3, 3] += 1
    is_changed = (layer(grid) - layer(changed)).abs().amax(-1)[0] > 1e-6
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[2:5, 2:5] = True
    assert torch.equal(expected, is_changed)
