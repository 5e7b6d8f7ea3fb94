"""Exponential moving average (EMA) of the weights of a network."""

from copy import deepcopy

import torch
from torch import nn


class ModelEma:
    """A copy of a network that holds the exponential moving average of its weights.

    BatchNorm statistics are averaged like the weights; integer counters are copied. Unlike
    PyTorch's AveragedModel, an update never waits for the device.

    Args:
        model: the network; it is not changed.
        decay: the share of the average kept at each update, above 0 and below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, *, is_first: bool) -> None:
        """Update the average with the weights of `model`; copy them at the first update."""
        weights = model.state_dict(keep_vars=True)
        average = self.model.state_dict(keep_vars=True)
        averaged = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [average[name] for name in averaged],
            [weights[name] for name in averaged],
            1.0 if is_first else 1 - self._decay,
        )
        for name in weights.keys() - averaged:
            average[name].copy_(weights[name])
