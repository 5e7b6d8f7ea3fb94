import pytest
import torch
from torch import nn

from segformer.training.ema import ModelEma


def test_the_first_update_takes_the_weights_over() -> None:
    """To the bit: what the network was before it learnt leaves no trace."""
    model = nn.Linear(3, 2)
    average = ModelEma(model, decay=0.999)
    with torch.no_grad():
        model.weight.normal_()
    average.update(model, is_first=True)
    assert torch.equal(model.weight, average.model.weight)


def test_the_network_stays_as_it_is() -> None:
    """The average shares no memory with it, and wants no gradient."""
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    average = ModelEma(model, decay=0.5)
    with torch.no_grad():
        average.model.weight.zero_()
    average.update(model, is_first=False)
    assert torch.equal(before, model.weight)
    assert model.weight.requires_grad
    assert not average.model.weight.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_an_update_does_not_wait_for_the_gpu() -> None:
    """PyTorch finds no operation that synchronizes."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).cuda()
    average = ModelEma(model, decay=0.5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        average.update(model, is_first=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
