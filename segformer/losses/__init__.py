"""What training minimizes, by name; pixels at IGNORE change neither value nor gradient of any."""

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
"""From scores (b, k, h, w) and int64 train ids (b, h, w), IGNORE where void, to a scalar of at
least float32; 0 where every pixel is void. Of processes that train together each gives its share
of the batch, and gets the value of the whole."""

CE_DICE = (1.0, 1.0)
"""Weights of cross-entropy and Dice (nnU-Net, arXiv:1809.10486: their plain sum)."""

CE_JACCARD = (0.25, 0.75)
"""Weights of cross-entropy and Jaccard (used with Jaccard metric losses, arXiv:2302.05666)."""


def ce_dice(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and Dice over one softmax, added with the weights CE_DICE.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    logs, predicted = log_probability_and_class_sums(scores, target)
    of_pixels = mean_over_labeled(-logs, target)
    of_classes = dice_from_sums(compute_class_sums(logs, predicted, target))
    return CE_DICE[0] * of_pixels + CE_DICE[1] * of_classes


def ce_jaccard(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and Jaccard over one softmax, added with the weights CE_JACCARD.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    logs, predicted = log_probability_and_class_sums(scores, target)
    of_pixels = mean_over_labeled(-logs, target)
    of_classes = jaccard_from_sums(compute_class_sums(logs, predicted, target))
    return CE_JACCARD[0] * of_pixels + CE_JACCARD[1] * of_classes


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
"""Every loss by the name that parameters give it; those in WEIGHTED take the weights as well."""

WEIGHTED_LOSSES = frozenset({"weighted_ce"})
"""The losses with a third argument, class_weights (k,)."""


def get_loss(name: str, class_weights: Tensor | None = None) -> Loss:
    """Return the loss called `name`, with its weights if it has any.

    Args:
        name: one of LOSSES.
        class_weights: (k,), one per class, 0 or more and not all 0; for the losses in WEIGHTED
            only. Best on the device of the scores.

    Raises:
        ValueError: for a name that is not in LOSSES, and weights that are missing, not asked for or
            impossible.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; choose from {', '.join(LOSSES)}")
    if name not in WEIGHTED_LOSSES:
        if class_weights is not None:
            raise ValueError(
                f"loss {name!r} takes no class_weights; leave them out, or choose from "
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
                f"class_weights: {weight} for class {index}; every weight is a finite number of 0 "
                "or more, 0 for a class that should not count"
            )
    if not class_weights.any():
        raise ValueError("class_weights: all are 0, so that nothing counts; give one above 0")
