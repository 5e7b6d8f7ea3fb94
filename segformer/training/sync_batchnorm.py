"""BatchNorm whose statistics are those of the whole batch, however many processes share it."""

import torch
from torch import Tensor, nn

from segformer.distributed import all_reduce


def convert_sync_batchnorm(model: nn.Module) -> nn.Module:
    """Have every BatchNorm of a network count the pixels of all processes; names stay as they are.

    PyTorch's SyncBatchNorm refuses to on a CPU, and waits for the GPU in every forward pass.

    Args:
        model: changed in place; its parameters stay the same tensors.

    Returns:
        The network.
    """
    for name, layer in [*model.named_modules()]:
        if type(layer) is nn.BatchNorm2d:
            model.set_submodule(name, SyncBatchNorm2d.from_batch_norm(layer))
    return model


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d over the batches of all processes that train together."""

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d) -> "SyncBatchNorm2d":
        """Return one with the parameters, statistics and mode of another."""
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.weight, shared.bias = norm.weight, norm.bias
        shared.running_mean, shared.running_var = norm.running_mean, norm.running_var
        shared.num_batches_tracked = norm.num_batches_tracked
        return shared.train(norm.training)

    def forward(self, maps: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        if not self.training:
            return super().forward(maps)
        dtype = torch.promote_types(maps.dtype, torch.float32)
        rows = maps.permute(0, 2, 3, 1).flatten(0, 2).to(dtype)  # (n, c)
        n = all_reduce(
            rows.new_full((), len(rows))
        )  # filled where it lies: no copy to be waited for
        mean = all_reduce(rows.sum(0)) / n
        # In a second pass: a mean square less a squared mean would lose digits.
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
