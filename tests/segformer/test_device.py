from functools import partial

import pytest
import torch
from torch import Tensor, nn

from segformer.device import maybe_compile


class Watched(nn.Module):
    """Doubles, and notes whether it is being compiled."""

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
def test_the_network_itself_stays_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who validates calls it as it was; only what is returned is compiled, and does the same."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # in no time
    network = Watched()
    fast = maybe_compile(network, True, torch.device("cpu"))
    values = torch.arange(3.0)
    assert torch.equal(2 * values, network(values))
    assert not network.is_compiled
    assert torch.equal(2 * values, fast(values))
    assert network.is_compiled


def test_a_wish_for_nothing_is_heard() -> None:
    """On a CPU `auto` compiles nothing either."""
    network = Watched()
    assert maybe_compile(network, False, torch.device("cpu")) is network
    assert maybe_compile(network, "auto", torch.device("cpu")) is network
