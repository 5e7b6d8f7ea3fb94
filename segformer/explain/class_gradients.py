"""Class gradients: the gradient of a loss by the true class of the pixels and by layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segformer.cityscapes import IGNORE
from segformer.inference.segment import resize_scores
from segformer.model.segformer import SegFormer

LAYERS = ("stage 1", "stage 2", "stage 3", "stage 4", "decoder", "classifier")
"""Groups of layers, from the input on: encoder stages, decoder, and its last layer."""


@dataclass(frozen=True)
class ClassGradients:
    """The gradient of one loss on one batch, by class; k classes, g groups of layers.

    Void pixels have no gradient, so that the parts of the classes sum to the whole.

    Attributes:
        logit_l1: (k,) sum of |dL/ds| over the pixels of each class and all their k scores s; nan
            for a class without pixels.
        layer_l2: (k, g) L2 norm of the parameter gradient from the pixels of each class, with the
            dL/ds of all others set to 0; nan for a class without pixels.
        total_l2: (g,) L2 norm of the whole gradient: of the sum, over the classes, of the vectors
            whose norms are in `layer_l2`.
        total_gradient: (p,) the gradient of all parameters, in the order of LAYERS.
        error_rate: share of the labeled pixels that are predicted wrongly.
        wrong_share: share of `logit_l1` from these pixels.
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
    """Compute the class gradients of every loss at the same weights, on the same batch, in float32.

    The network is in training mode, with batch statistics; the result is random if the rates of
    drop path or dropout are above 0. One forward pass, one backward pass per loss and class.

    Args:
        model: put into training mode; the running statistics of its BatchNorm change.
        images: (b, 3, h, w) normalized.
        target: (b, h, w) int64 train ids; IGNORE is void.
        losses: by name, from scores and target to a scalar.

    Returns:
        The class gradients of each loss, by name.
    """
    model.train()
    scores = resize_scores(model(images), target.shape[-2:])
    groups = layer_groups(model)
    return {name: _split_by_class(groups, scores, target, loss) for name, loss in losses.items()}


def compute_gradient(
    model: SegFormer, images: Tensor, target: Tensor, loss: Callable[..., Tensor]
) -> Tensor:
    """Return `ClassGradients.total_gradient`, (p,), with a single backward pass."""
    model.train()
    value = loss(resize_scores(model(images), target.shape[-2:]), target)
    return torch.cat(_group_gradients(value, layer_groups(model), torch.ones_like(value))).cpu()


def layer_groups(model: SegFormer) -> list[list[nn.Parameter]]:
    """Return the parameters of each group of LAYERS; every parameter is in one group."""
    last = list(model.decoder.classify.parameters())
    last_ids = {id(parameter) for parameter in last}
    decoder = [
        parameter for parameter in model.decoder.parameters() if id(parameter) not in last_ids
    ]
    return [*(list(stage.parameters()) for stage in model.encoder.stages), decoder, last]


def _split_by_class(
    groups: Sequence[Sequence[nn.Parameter]],
    scores: Tensor,
    target: Tensor,
    loss: Callable[..., Tensor],
) -> ClassGradients:
    leaf = scores.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf, target), leaf)  # (b, k, h, w)
    magnitude = slope.abs().sum(1)  # (b, h, w)
    k = scores.shape[1]
    logit_l1 = magnitude.new_full((k,), torch.nan)
    layer_l2 = magnitude.new_full((k, len(groups)), torch.nan)
    sums: list[Tensor] = [magnitude.new_zeros(1)] * len(groups)
    for c in range(k):
        is_class = target == c
        if not is_class.any():
            continue
        parts = _group_gradients(scores, groups, slope * is_class[:, None])
        logit_l1[c] = magnitude[is_class].sum()
        layer_l2[c] = _l2_norms(parts)
        sums = [total + part for total, part in zip(sums, parts, strict=True)]
    is_wrong = (leaf.argmax(1) != target) & (target != IGNORE)
    return ClassGradients(
        logit_l1.cpu(),
        layer_l2.cpu(),
        _l2_norms(sums).cpu(),
        torch.cat(sums).cpu(),
        float(is_wrong.sum() / (target != IGNORE).sum()),
        float(magnitude[is_wrong].sum() / magnitude.sum()),
    )


def _l2_norms(vectors: Sequence[Tensor]) -> Tensor:
    # The sum of millions of squares in float32 loses the fourth digit.
    norms = [torch.linalg.vector_norm(vector, dtype=torch.float64) for vector in vectors]
    return torch.stack(norms).float()


def _group_gradients(
    outputs: Tensor, groups: Sequence[Sequence[nn.Parameter]], slope: Tensor
) -> list[Tensor]:
    """Return a flat gradient per group of layers; the graph is retained."""
    parameters = [parameter for group in groups for parameter in group]
    gradients = torch.autograd.grad(outputs, parameters, slope, retain_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    return list(flat.split([sum(parameter.numel() for parameter in group) for group in groups]))
