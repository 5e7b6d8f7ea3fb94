"""The table of losses; pixels at IGNORE change neither the value nor the gradient of any loss."""

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor

from segformer.losses.overlap import (
    compute_class_sums,
    dice,
    dice_from_sums,
    jaccard,
    jaccard_from_sums,
    log_dice,
)
from segformer.losses.pixel import (
    cross_entropy,
    focal,
    mean_over_labeled,
    ohem_cross_entropy,
    weighted_cross_entropy,
)
from segformer.losses.softmax_sums import log_probability_and_class_sums

Loss = Callable[[Tensor, Tensor], Tensor]
"""From scores (b, k, h, w) and int64 train ids (b, h, w), IGNORE at void, to a scalar of at least
float32; 0 if every pixel is void. In data-parallel training each process passes its share of the
batch, and gets the value of the whole batch."""

CE_DICE = (1.0, 1.0)
"""Weights of cross-entropy and Dice (nnU-Net, arXiv:1809.10486: their sum)."""

CE_JACCARD = (0.25, 0.75)
"""Weights of cross-entropy and Jaccard (used with Jaccard metric losses, arXiv:2302.05666)."""


def ce_dice(scores: Tensor, target: Tensor) -> Tensor:
    """Weighted sum of cross-entropy and Dice, with the weights CE_DICE, from one softmax.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    logs, predicted = log_probability_and_class_sums(scores, target)
    pixel_loss = mean_over_labeled(-logs, target)
    class_loss = dice_from_sums(compute_class_sums(logs, predicted, target))
    return CE_DICE[0] * pixel_loss + CE_DICE[1] * class_loss


def ce_jaccard(scores: Tensor, target: Tensor) -> Tensor:
    """Weighted sum of cross-entropy and Jaccard, with the weights CE_JACCARD, from one softmax.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    logs, predicted = log_probability_and_class_sums(scores, target)
    pixel_loss = mean_over_labeled(-logs, target)
    class_loss = jaccard_from_sums(compute_class_sums(logs, predicted, target))
    return CE_JACCARD[0] * pixel_loss + CE_JACCARD[1] * class_loss


LOSSES: dict[str, Callable[..., Tensor]] = {
    "ce": cross_entropy,
    "weighted_ce": weighted_cross_entropy,
    "ohem_ce": ohem_cross_entropy,
    "focal": focal,
    "dice": dice,
    "log_dice": log_dice,
    "jaccard": jaccard,
    "ce_dice": ce_dice,
    "ce_jaccard": ce_jaccard,
}
"""Losses by name; those in WEIGHTED_LOSSES also take class weights."""

WEIGHTED_LOSSES = frozenset({"weighted_ce"})
"""Losses with a third argument, class_weights (k,)."""


def get_loss(name: str, class_weights: Tensor | None = None) -> Loss:
    """Return the loss called `name`, with its class weights if it takes any.

    Args:
        name: one of LOSSES.
        class_weights: (k,), one per class, 0 or more and not all 0; for losses in
            WEIGHTED_LOSSES only. Best on the device of the scores.

    Raises:
        ValueError: for a name that is not in LOSSES, or weights that are missing, not taken by the
            loss, or out of range.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; choose from {', '.join(LOSSES)}")
    if name not in WEIGHTED_LOSSES:
        if class_weights is not None:
            raise ValueError(
                f"loss {name!r} takes no class_weights; remove them, or choose from "
                f"{', '.join(sorted(WEIGHTED_LOSSES))}"
            )
        return LOSSES[name]
    if class_weights is None:
        raise ValueError(f"loss {name!r} needs class_weights; pass a (k,) tensor, one per class")
    _check_class_weights(class_weights)
    return partial(LOSSES[name], class_weights=class_weights)


def _check_class_weights(class_weights: Tensor) -> None:
    if class_weights.dim() != 1:
        raise ValueError(
            f"class_weights: {tuple(class_weights.shape)} is not (k,); give one number per class"
        )
    for index, weight in enumerate(class_weights.tolist()):
        if not 0 <= weight < math.inf:
            raise ValueError(
                f"class_weights: {weight} for class {index}; every weight must be finite and 0 or "
                "more (0 excludes a class)"
            )
    if not class_weights.any():
        raise ValueError("class_weights: all are 0; at least one must be above 0")
