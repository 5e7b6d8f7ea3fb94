"""A network and an image for the tests of segformer/explain."""

import torch
from torch import Tensor, nn

from segformer.model.layers import Attention
from segformer.model.segformer import SegFormer


def sharp_model() -> SegFormer:
    """A random B0 whose attention is far from uniform."""
    torch.manual_seed(0)
    model = SegFormer("b0", num_classes=4, decoder_width=16)
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.query.weight, std=0.15)
            nn.init.normal_(module.key_value.weight, std=0.15)
    return model


def odd_image() -> Tensor:
    """(3, 64, 101): no stride divides its columns."""
    return torch.randn(3, 64, 101, generator=torch.Generator().manual_seed(0))
