from functools import partial

import pytest
import torch
from torch import Tensor, nn

from segformer.device import maybe_compile


class CompileProbe(nn.Module):
    """Doubles its input, and records whether it is being compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.is_compiled = False

    def forward(self, values: Tensor) -> Tensor:
        """(n) -> (n)."""
        if torch.compiler.is_compiling():
            self.is_compiled = True
        return 2 * values


# PyTorch's compiler imports what PyTorch has deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_maybe_compile_leaves_the_network_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the returned network is compiled; both compute the same."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # in no time
    network = CompileProbe()
    fast = maybe_compile(network, True, torch.device("cpu"))
    values = torch.arange(3.0)
    assert torch.equal(2 * values, network(values))
    assert not network.is_compiled
    assert torch.equal(2 * values, fast(values))
    assert network.is_compiled


def test_maybe_compile_can_return_the_network_itself() -> None:
    """With False, and with `auto` on a CPU, nothing is compiled."""
    network = CompileProbe()
    assert maybe_compile(network, False, torch.device("cpu")) is network
    assert maybe_compile(network, "auto", torch.device("cpu")) is network
