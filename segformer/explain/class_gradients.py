"""Takes a loss's gradient apart: whose pixels pull, how hard, at which layers of the network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segformer.cityscapes import IGNORE
from segformer.inference.segment import resize_scores
from segformer.model.segformer import SegFormer

LAYERS = ("stage 1", "stage 2", "stage 3", "stage 4", "decoder", "classifier")
"""The groups of layers, from the pixels up: the encoder's stages, the decoder, its last layer."""


@dataclass(frozen=True)
class ClassGradients:
    """One loss's gradient on one batch, by class; k classes, g groups of layers.

    No gradient comes from void, so that the classes' parts add up to the whole.

    Attributes:
        logit_l1: (k,) sum of |dL/ds| over the pixels of each class and all their k scores s; nan
            for a class without pixels.
        layer_l2: (k, g) length (L2) of the parameters' gradient that the pixels of each class
            send, all others' dL/ds being 0; nan for a class without pixels.
        total_l2: (g,) length (L2) of the gradient itself: of the sum, over the classes, of the
            vectors whose lengths `layer_l2` holds.
        total_gradient: (p,) the gradient, all parameters in the order of LAYERS.
        error_rate: the share of the labeled pixels that are predicted wrongly.
        wrong_share: the share of `logit_l1` that comes from these.
    """

    logit_l1: Tensor
    layer_l2: Tensor
    total_l2: Tensor
    total_gradient: Tensor
    error_rate: float
    wrong_share: float


def gradients_by_class(
    model: SegFormer, images: Tensor, target: Tensor, losses: Mapping[str, Callable[..., Tensor]]
) -> dict[str, ClassGradients]:
    """Measure every loss at the same weights, on the same batch, in float32.

    The network is as in training, with the batch's own statistics; with rates of drop path and
    dropout above 0, chance has a part in it. One pass forward, one back per loss and class.

    Args:
        model: put into training mode; the running statistics of its BatchNorm move.
        images: (b, 3, h, w) normalized.
        target: (b, h, w) int64 train ids; IGNORE is void.
        losses: by name, from scores and target to a scalar.
    """
    model.train()
    scores = resize_scores(model(images), target.shape[-2:])
    groups = layer_groups(model)
    return {name: _split_by_class(groups, scores, target, loss) for name, loss in losses.items()}


def compute_gradient(
    model: SegFormer, images: Tensor, target: Tensor, loss: Callable[..., Tensor]
) -> Tensor:
    """(p,): what `Pull.whole` holds, in one pass back."""
    model.train()
    value = loss(resize_scores(model(images), target.shape[-2:]), target)
    return torch.cat(_group_gradients(value, layer_groups(model), torch.ones_like(value))).cpu()


def layer_groups(model: SegFormer) -> list[list[nn.Parameter]]:
    """The parameters by the groups of LAYERS, each in one of them."""
    last = list(model.decoder.classify.parameters())
    is_last = {id(parameter) for parameter in last}
    decoder = [one for one in model.decoder.parameters() if id(one) not in is_last]
    return [*(list(stage.parameters()) for stage in model.encoder.stages), decoder, last]


def _split_by_class(
    groups: Sequence[Sequence[nn.Parameter]],
    scores: Tensor,
    target: Tensor,
    loss: Callable[..., Tensor],
) -> ClassGradients:
    given = scores.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(given, target), given)  # (b, k, h, w)
    mass = slope.abs().sum(1)  # (b, h, w)
    k = scores.shape[1]
    at_scores = mass.new_full((k,), torch.nan)
    at_layers = mass.new_full((k, len(groups)), torch.nan)
    sums: list[Tensor] = [mass.new_zeros(1)] * len(groups)
    for c in range(k):
        is_class = target == c
        if not is_class.any():
            continue
        parts = _group_gradients(scores, groups, slope * is_class[:, None])
        at_scores[c] = mass[is_class].sum()
        at_layers[c] = _l2_norms(parts)
        sums = [total + part for total, part in zip(sums, parts, strict=True)]
    is_wrong = (given.argmax(1) != target) & (target != IGNORE)
    return ClassGradients(
        at_scores.cpu(),
        at_layers.cpu(),
        _l2_norms(sums).cpu(),
        torch.cat(sums).cpu(),
        float(is_wrong.sum() / (target != IGNORE).sum()),
        float(mass[is_wrong].sum() / mass.sum()),
    )


def _l2_norms(vectors: Sequence[Tensor]) -> Tensor:
    # Millions of squares added up in float32 lose the fourth digit.
    norms = [torch.linalg.vector_norm(vector, dtype=torch.float64) for vector in vectors]
    return torch.stack(norms).float()


def _group_gradients(
    outputs: Tensor, groups: Sequence[Sequence[nn.Parameter]], slope: Tensor
) -> list[Tensor]:
    """A vector per group of layers; the graph stays."""
    parameters = [parameter for group in groups for parameter in group]
    found = torch.autograd.grad(outputs, parameters, slope, retain_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in found])
    return list(flat.split([sum(one.numel() for one in group) for group in groups]))
