"""AdamW and Adam: no weight decay on norms and biases, a higher learning rate in the decoder."""

from typing import Any

from torch import nn
from torch.optim import Adam, AdamW

_FUSED = {"cpu", "cuda"}
"""Devices with fused kernels in PyTorch; on a CPU 3 times as fast (docs/experiments.md)."""


def parameter_groups(
    model: nn.Module, *, lr: float, decoder_lr_factor: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups for `model.encoder` and `model.decoder`.

    Args:
        model: without trainable parameters outside `.encoder` and `.decoder`.
        lr: learning rate of the encoder.
        decoder_lr_factor: learning rate of the decoder, as a multiple of the encoder's.
        weight_decay: of matrices and kernels; 1-d parameters (norms, biases) have 0.

    Returns:
        Up to four groups, each with params, lr, weight_decay and a name such as "encoder, decayed".

    Raises:
        ValueError: naming parameters outside the encoder and the decoder.
    """
    rates = {"encoder": lr, "decoder": lr * decoder_lr_factor}
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = name.partition(".")[0]
        if part not in rates:
            raise ValueError(f"parameter {name} is neither in the encoder nor in the decoder")
        is_decayed = parameter.ndim > 1
        kind = f"{part}, {'decayed' if is_decayed else 'not decayed'}"
        decay = weight_decay if is_decayed else 0.0
        group = {"name": kind, "params": [], "lr": rates[part], "weight_decay": decay}
        groups.setdefault(kind, group)["params"].append(parameter)
    return list(groups.values())


def adamw(model: nn.Module, *, lr: float, decoder_lr_factor: float, weight_decay: float) -> AdamW:
    """Return AdamW over `parameter_groups`; PyTorch's betas, 0.9 and 0.999, are the paper's."""
    groups = parameter_groups(
        model, lr=lr, decoder_lr_factor=decoder_lr_factor, weight_decay=weight_decay
    )
    return AdamW(groups, fused=_has_fused_kernel(model))


def adam(model: nn.Module, *, lr: float, decoder_lr_factor: float, weight_decay: float) -> Adam:
    """Return Adam over `parameter_groups`; its weight decay is part of the gradient (L2)."""
    groups = parameter_groups(
        model, lr=lr, decoder_lr_factor=decoder_lr_factor, weight_decay=weight_decay
    )
    return Adam(groups, fused=_has_fused_kernel(model))


OPTIMIZERS = {"adamw": adamw, "adam": adam}
"""Optimizers by name; all have the same signature."""


def _has_fused_kernel(model: nn.Module) -> bool:
    return all(parameter.device.type in _FUSED for parameter in model.parameters())
