import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer import banded
from segformer.encoder import Block
from segformer.layers import Attention, FeedForward, convolve


def randomised(layer: nn.Module) -> nn.Module:
    """The layer with every weight and bias drawn at random."""
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def feed_forward(layer: FeedForward, grid: Tensor) -> Tensor:
    """The paper's layers, one after the other."""
    return layer.narrow(F.gelu(convolve(layer.neighbours, layer.widen(grid))))


@pytest.mark.parametrize("rows", [5, 64, 65, 97])
def test_feed_forward_is_added_in_bands_without_a_seam(rows: int) -> None:
    """Without gradients rows are done some at a time, and the result is the layers' own sum."""
    layer = randomised(FeedForward(4, 16))
    onto, grid = torch.randn(2, 2, rows, 3, 4)
    with torch.no_grad():
        expected = onto + feed_forward(layer, grid)
        torch.testing.assert_close(expected, layer(grid, onto), atol=1e-5, rtol=1e-5)


def test_attention_is_added() -> None:
    """Attention onto a map is the map and the attention."""
    layer = randomised(Attention(4, heads=2, reduction=2))
    onto, grid = torch.randn(2, 2, 6, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(onto + layer(grid), layer(grid, onto), atol=1e-5, rtol=1e-5)


def test_a_block_gives_the_same_with_and_without_gradients() -> None:
    """Inference adds in another place, and leaves what came in as it was."""
    block = Block(4, heads=1, reduction=2, drop_path=0.5, norm_eps=1e-5)
    block, grid = randomised(block).eval(), torch.randn(2, 70, 4, 4)
    before, expected = grid.clone(), block(grid)
    with torch.no_grad():
        torch.testing.assert_close(expected, block(grid), atol=1e-4, rtol=1e-4)
    assert torch.equal(before, grid)


def test_modules_are_called_in_inference() -> None:
    """A forward hook on a part of a block is run also where the parts add in place."""
    block, called = Block(4, heads=1, reduction=2, drop_path=0.0, norm_eps=1e-5).eval(), []
    for part in (block.attention, block.feed_forward):
        part.register_forward_hook(lambda module, _in, _out: called.append(type(module).__name__))
    with torch.no_grad():
        block(torch.randn(1, 4, 4, 4))
    assert ["Attention", "FeedForward"] == called


@pytest.mark.parametrize("tokens", [1, 3, 100])
def test_gelu_linear_has_the_layers_value_and_gradients(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bands of any length give what GELU and the linear layer give, and all three gradients."""
    monkeypatch.setattr(banded, "_WIDE_TOKENS", tokens)
    layer = randomised(nn.Linear(6, 4)).double()
    grid = torch.randn(2, 3, 2, 6, dtype=torch.float64, requires_grad=True)
    inputs = (grid, layer.weight, layer.bias)
    found, expected = banded.gelu_linear(grid, layer), layer(F.gelu(grid))
    torch.testing.assert_close(expected, found)
    for wanted, gradient in zip(
        torch.autograd.grad(expected.square().sum(), inputs),
        torch.autograd.grad(found.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(wanted, gradient)


def test_resized_maps_are_added_with_the_gradients_of_resizing() -> None:
    """PyTorch's finite differences agree, for the map that is added to and for those added."""
    shape = torch.Size((2, 5, 3, 2))
    total = torch.randn(30, 2, dtype=torch.float64, requires_grad=True)
    coarse = [torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def added(total: Tensor, *coarse: Tensor) -> Tensor:
        return banded.add_resized(total.clone(), coarse, shape)

    assert torch.autograd.gradcheck(added, (total, *coarse))


def test_bands_stand_back_for_autocast() -> None:
    """Autocast decides types step by step, so within it the plain layers are run."""
    grid = torch.zeros(1, 1, 1, 1)
    assert banded.pays_off(grid)
    with torch.autocast("cpu", torch.bfloat16):
        assert not banded.pays_off(grid)
