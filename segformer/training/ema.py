"""The exponential moving average of a network's weights in training."""

from copy import deepcopy

import torch
from torch import nn


class ModelEma:
    """A copy of a network whose weights follow slowly.

    BatchNorm's statistics are averaged like the weights that they belong to; what is counted is
    copied. Nothing here waits for the device, as PyTorch's AveragedModel does at each update.

    Args:
        model: the network; it stays as it is.
        decay: what the average keeps at each update, above 0 and below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, *, is_first: bool) -> None:
        """Move toward the weights of `model`, or take them over at the first update."""
        weights = model.state_dict(keep_vars=True)
        average = self.model.state_dict(keep_vars=True)
        moving = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [average[name] for name in moving],
            [weights[name] for name in moving],
            1.0 if is_first else 1 - self._decay,
        )
        for name in weights.keys() - moving:
            average[name].copy_(weights[name])
