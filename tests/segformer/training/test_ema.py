import pytest
import torch
from torch import nn

from segformer.training.ema import ModelEma


def test_first_update_copies_the_weights() -> None:
    """Bit for bit: the initial weights have no influence."""
    model = nn.Linear(3, 2)
    average = ModelEma(model, decay=0.999)
    with torch.no_grad():
        model.weight.normal_()
    average.update(model, is_first=True)
    assert torch.equal(model.weight, average.model.weight)


def test_network_is_not_changed() -> None:
    """The average shares no memory with the network, and requires no gradient."""
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
def test_update_does_not_wait_for_the_gpu() -> None:
    """PyTorch reports no synchronizing operation."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).cuda()
    average = ModelEma(model, decay=0.5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        average.update(model, is_first=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
