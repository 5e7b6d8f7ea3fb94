import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer.losses import dice
from segformer.model import cpu_kernels
from segformer.model.encoder import Block
from segformer.model.layers import Attention, FeedForward, convolve
from segformer.model.segformer import SegFormer


def randomized(layer: nn.Module) -> nn.Module:
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
    layer = randomized(FeedForward(4, 16))
    onto, grid = torch.randn(2, 2, rows, 3, 4)
    with torch.no_grad():
        expected = onto + feed_forward(layer, grid)
        torch.testing.assert_close(expected, layer(grid, onto), atol=1e-5, rtol=1e-5)


def test_attention_is_added() -> None:
    """Attention onto a map is the map and the attention."""
    layer = randomized(Attention(4, heads=2, reduction=2))
    onto, grid = torch.randn(2, 2, 6, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(onto + layer(grid), layer(grid, onto), atol=1e-5, rtol=1e-5)


def test_a_block_gives_the_same_with_and_without_gradients() -> None:
    """Inference adds in another place, and leaves what came in as it was."""
    block = Block(4, heads=1, reduction=2, drop_path=0.5, norm_eps=1e-5)
    block, grid = randomized(block).eval(), torch.randn(2, 70, 4, 4)
    before, expected = grid.clone(), block(grid)
    with torch.no_grad():
        torch.testing.assert_close(expected, block(grid), atol=1e-4, rtol=1e-4)
    assert torch.equal(before, grid)


@pytest.mark.parametrize("is_learning", [False, True])
def test_every_module_is_called(is_learning: bool) -> None:
    """Forward hooks are run on all parts of a block that do something, and change nothing."""
    block = randomized(Block(4, heads=1, reduction=2, drop_path=0.0, norm_eps=1e-5))
    block.train(is_learning)
    grid, called = torch.randn(1, 4, 4, 4), set()
    with torch.set_grad_enabled(is_learning):
        expected = block(grid)
        for name, part in block.named_modules():
            part.register_forward_hook(lambda *_, name=name: called.add(name))
        torch.testing.assert_close(expected, block(grid), atol=1e-5, rtol=1e-5)
    assert {name for name, _ in block.named_modules()} == called | {"drop_path"}


class Doubled(nn.Module):
    """A linear layer with an adapter around it, as LoRA libraries make them: weights and more."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.weight, self.bias = inner.weight, inner.bias

    def forward(self, grid: Tensor) -> Tensor:
        """Twice what the inner layer gives."""
        return 2 * self.inner(grid)


@pytest.mark.parametrize("is_learning", [False, True])
def test_a_replaced_layer_is_called_and_not_looked_into(is_learning: bool) -> None:
    """Where another module stands for a linear layer, its `forward` counts, not its weights."""
    layer, grid = randomized(FeedForward(4, 16)), torch.randn(1, 5, 5, 4)
    expected = 2 * feed_forward(layer, grid)
    layer.narrow = Doubled(layer.narrow)
    with torch.set_grad_enabled(is_learning):
        torch.testing.assert_close(expected, layer(grid), atol=1e-4, rtol=1e-4)
        added = layer(grid, torch.ones_like(grid))
    torch.testing.assert_close(expected + 1, added, atol=1e-4, rtol=1e-4)


def test_what_is_added_to_may_lie_in_memory_as_it_likes() -> None:
    """A map whose channels are not last in memory gives the same sums."""
    layers = randomized(FeedForward(4, 16)), randomized(Attention(4, heads=1, reduction=1))
    grid, onto = torch.randn(2, 5, 6, 4), torch.randn(2, 4, 6, 5).permute(0, 3, 2, 1)
    with torch.no_grad():
        for layer in layers:
            expected = layer(grid, onto.contiguous())
            torch.testing.assert_close(expected, layer(grid, onto), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_training", [False, True])
def test_the_network_is_one_graph_to_the_compiler(is_training: bool) -> None:
    """`torch.compile` takes the whole network without a break, and scores the same."""
    torch.manual_seed(0)
    model = SegFormer("b0", 3, drop_path=0.0, dropout=0.0).train(is_training)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    images = torch.randn(2, 3, 32, 33)
    torch.testing.assert_close(model(images), compiled(images), atol=1e-4, rtol=1e-4)


def test_functional_gradients_are_those_of_backward() -> None:
    """`torch.func.grad` goes through the network and a loss."""
    torch.manual_seed(0)
    model = SegFormer("b0", 3, drop_path=0.0, dropout=0.0).eval()
    images, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 8, 8))
    dice(model(images), labels).backward()
    parameters = {name: each.detach() for name, each in model.named_parameters()}

    def cost(parameters: dict[str, Tensor]) -> Tensor:
        return dice(torch.func.functional_call(model, parameters, (images,)), labels)

    found = torch.func.grad(cost)(parameters)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, found[name])


@pytest.mark.parametrize("tokens", [1, 3, 100])
def test_gelu_linear_has_the_layers_value_and_gradients(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bands of any length give what GELU and the linear layer give, and all three gradients."""
    monkeypatch.setattr(cpu_kernels, "_GELU_TOKENS", tokens)
    layer = randomized(nn.Linear(6, 4)).double()
    grid = torch.randn(2, 3, 2, 6, dtype=torch.float64, requires_grad=True)
    inputs = (grid, layer.weight, layer.bias)
    found, expected = cpu_kernels.gelu_linear(grid, layer), layer(F.gelu(grid))
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
        return cpu_kernels.add_resized(total.clone(), coarse, shape)

    assert torch.autograd.gradcheck(added, (total, *coarse))


def test_bands_stand_back_for_autocast() -> None:
    """Autocast decides types step by step, so within it the plain layers are run."""
    grid = torch.zeros(1, 1, 1, 1)
    assert cpu_kernels.use_cpu_kernels(grid)
    with torch.autocast("cpu", torch.bfloat16):
        assert not cpu_kernels.use_cpu_kernels(grid)
