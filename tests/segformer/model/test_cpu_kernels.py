import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer.losses import dice
from segformer.model import cpu_kernels
from segformer.model.encoder import Block
from segformer.model.layers import Attention, FeedForward, convolve
from segformer.model.segformer import SegFormer


def randomize(layer: nn.Module) -> nn.Module:
    """The layer with every weight and bias drawn at random."""
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def reference_feed_forward(layer: FeedForward, grid: Tensor) -> Tensor:
    """The layers of the paper, one after the other."""
    return layer.narrow(F.gelu(convolve(layer.neighbours, layer.widen(grid))))


@pytest.mark.parametrize("rows", [5, 64, 65, 97])
def test_feed_forward_in_bands_equals_the_plain_layers(rows: int) -> None:
    """Without gradients rows are computed in bands, with the result of the plain layers."""
    layer = randomize(FeedForward(4, 16))
    residual, grid = torch.randn(2, 2, rows, 3, 4)
    with torch.no_grad():
        expected = residual + reference_feed_forward(layer, grid)
        torch.testing.assert_close(expected, layer(grid, residual), atol=1e-5, rtol=1e-5)


def test_attention_is_added_to_the_residual() -> None:
    """Attention with a residual is the sum of the residual and the attention."""
    layer = randomize(Attention(4, heads=2, reduction=2))
    residual, grid = torch.randn(2, 2, 6, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(
            residual + layer(grid), layer(grid, residual), atol=1e-5, rtol=1e-5
        )


def test_block_is_equal_with_and_without_gradients() -> None:
    """Inference adds in place elsewhere, with equal results and an unchanged input."""
    block = Block(4, heads=1, reduction=2, drop_path=0.5, norm_eps=1e-5)
    block, grid = randomize(block).eval(), torch.randn(2, 70, 4, 4)
    before, expected = grid.clone(), block(grid)
    with torch.no_grad():
        torch.testing.assert_close(expected, block(grid), atol=1e-4, rtol=1e-4)
    assert torch.equal(before, grid)


@pytest.mark.parametrize("is_learning", [False, True])
def test_every_module_is_called(is_learning: bool) -> None:
    """Forward hooks of all active parts of a block run, and change nothing."""
    block = randomize(Block(4, heads=1, reduction=2, drop_path=0.0, norm_eps=1e-5))
    block.train(is_learning)
    grid, called = torch.randn(1, 4, 4, 4), set()
    with torch.set_grad_enabled(is_learning):
        expected = block(grid)
        for name, part in block.named_modules():
            part.register_forward_hook(lambda *_, name=name: called.add(name))
        torch.testing.assert_close(expected, block(grid), atol=1e-5, rtol=1e-5)
    assert {name for name, _ in block.named_modules()} == called | {"drop_path"}


class DoublingAdapter(nn.Module):
    """A linear layer with an adapter, as in LoRA libraries, with the inner layer's weights."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.weight, self.bias = inner.weight, inner.bias

    def forward(self, grid: Tensor) -> Tensor:
        """Twice what the inner layer gives."""
        return 2 * self.inner(grid)


@pytest.mark.parametrize("is_learning", [False, True])
def test_replaced_layer_is_called(is_learning: bool) -> None:
    """If another module replaces a linear layer, its `forward` is used, not its weights."""
    layer, grid = randomize(FeedForward(4, 16)), torch.randn(1, 5, 5, 4)
    expected = 2 * reference_feed_forward(layer, grid)
    layer.narrow = DoublingAdapter(layer.narrow)
    with torch.set_grad_enabled(is_learning):
        torch.testing.assert_close(expected, layer(grid), atol=1e-4, rtol=1e-4)
        added = layer(grid, torch.ones_like(grid))
    torch.testing.assert_close(expected + 1, added, atol=1e-4, rtol=1e-4)


def test_residual_may_have_any_memory_format() -> None:
    """A residual whose channels are not last in memory gives the same sums."""
    layers = randomize(FeedForward(4, 16)), randomize(Attention(4, heads=1, reduction=1))
    grid, residual = torch.randn(2, 5, 6, 4), torch.randn(2, 4, 6, 5).permute(0, 3, 2, 1)
    with torch.no_grad():
        for layer in layers:
            expected = layer(grid, residual.contiguous())
            torch.testing.assert_close(expected, layer(grid, residual), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_training", [False, True])
def test_network_compiles_without_graph_breaks(is_training: bool) -> None:
    """`torch.compile` captures the whole network as one graph, with equal scores."""
    torch.manual_seed(0)
    model = SegFormer("b0", 3, drop_path=0.0, dropout=0.0).train(is_training)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    images = torch.randn(2, 3, 32, 33)
    torch.testing.assert_close(model(images), compiled(images), atol=1e-4, rtol=1e-4)


def test_functional_gradients_equal_backward() -> None:
    """`torch.func.grad` works through the network and a loss."""
    torch.manual_seed(0)
    model = SegFormer("b0", 3, drop_path=0.0, dropout=0.0).eval()
    images, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 8, 8))
    dice(model(images), labels).backward()
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def cost(parameters: dict[str, Tensor]) -> Tensor:
        return dice(torch.func.functional_call(model, parameters, (images,)), labels)

    actual = torch.func.grad(cost)(parameters)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, actual[name])


@pytest.mark.parametrize("tokens", [1, 3, 100])
def test_gelu_linear_equals_the_plain_layers(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of any length give the value and all three gradients of GELU and a linear layer."""
    monkeypatch.setattr(cpu_kernels, "_GELU_TOKENS", tokens)
    layer = randomize(nn.Linear(6, 4)).double()
    grid = torch.randn(2, 3, 2, 6, dtype=torch.float64, requires_grad=True)
    inputs = (grid, layer.weight, layer.bias)
    actual, expected = cpu_kernels.gelu_linear(grid, layer), layer(F.gelu(grid))
    torch.testing.assert_close(expected, actual)
    for expected_gradient, gradient in zip(
        torch.autograd.grad(expected.square().sum(), inputs),
        torch.autograd.grad(actual.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(expected_gradient, gradient)


def test_add_resized_has_correct_gradients() -> None:
    """The gradients of all inputs agree with PyTorch's finite differences."""
    shape = torch.Size((2, 5, 3, 2))
    total = torch.randn(30, 2, dtype=torch.float64, requires_grad=True)
    coarse = [torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def added(total: Tensor, *coarse: Tensor) -> Tensor:
        return cpu_kernels.add_resized(total.clone(), coarse, shape)

    assert torch.autograd.gradcheck(added, (total, *coarse))


def test_cpu_kernels_are_off_under_autocast() -> None:
    """Autocast decides types per operation, so the plain layers run within it."""
    grid = torch.zeros(1, 1, 1, 1)
    assert cpu_kernels.use_cpu_kernels(grid)
    with torch.autocast("cpu", torch.bfloat16):
        assert not cpu_kernels.use_cpu_kernels(grid)
