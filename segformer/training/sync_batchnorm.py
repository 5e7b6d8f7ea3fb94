"""Synchronized BatchNorm: batch statistics over the batches of all processes."""

import torch
from torch import Tensor, nn

from segformer.distributed import all_reduce


def convert_sync_batchnorm(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d of a network by SyncBatchNorm2d; module names do not change.

    PyTorch's SyncBatchNorm does not run on a CPU, and waits for the GPU in every forward pass.

    Args:
        model: changed in place; its parameters stay the same tensors.

    Returns:
        The model.
    """
    for name, layer in [*model.named_modules()]:
        if type(layer) is nn.BatchNorm2d:
            model.set_submodule(name, SyncBatchNorm2d.from_batch_norm(layer))
    return model


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with statistics over the batches of all processes."""

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d) -> "SyncBatchNorm2d":
        """Return a SyncBatchNorm2d with the parameters, statistics and mode of `norm`."""
        synchronized = cls(norm.num_features, norm.eps, norm.momentum)
        synchronized.weight, synchronized.bias = norm.weight, norm.bias
        synchronized.running_mean, synchronized.running_var = norm.running_mean, norm.running_var
        synchronized.num_batches_tracked = norm.num_batches_tracked
        return synchronized.train(norm.training)

    def forward(self, maps: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        if not self.training:
            return super().forward(maps)
        dtype = torch.promote_types(maps.dtype, torch.float32)
        rows = maps.permute(0, 2, 3, 1).flatten(0, 2).to(dtype)  # (n, c)
        n = all_reduce(rows.new_full((), len(rows)))  # created on the device: no copy to wait for
        mean = all_reduce(rows.sum(0)) / n
        # In a second pass: E[x^2] - E[x]^2 would lose digits.
        variance = all_reduce((rows - mean).square().sum(0)) / n
        self._update_running_stats(mean.detach(), variance.detach() * n / (n - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], maps, scale[:, None, None]).to(maps)

    def _update_running_stats(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
