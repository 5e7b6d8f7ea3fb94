"""What training minimises; pixels at IGNORE change neither value nor gradient of any loss."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.cityscapes import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]
"""From scores (b, k, h, w) and train ids (b, h, w) to a scalar; 0 where every pixel is void."""


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over the labelled pixels of -log p(true class).

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    # Not reduction="mean": that is 0 / 0 where every pixel is void.
    scores = _at_least_float32(scores)
    losses = F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="none")
    return losses.sum() / (target != IGNORE).sum().clamp(min=1)


def dice(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over the classes present of 1 - Dice, each class's overlap summed over the whole batch.

    Dice of class c is 2 sum(p_c t_c) / (sum(p_c) + sum(t_c)), over the labelled pixels of all
    images together, with p the softmax and t 1 where c is the true class. There is no smoothing.
    A class is present if it has at least one pixel in `target`; an absent class counts neither in
    the sum nor in the mean, so the scale does not depend on what a crop happens to show. (Pixels
    wrongly given to an absent class still cost: they are missing from the class they belong to.)

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0, its maximum 1.
    """
    probabilities = _at_least_float32(scores).softmax(dim=1)
    is_labelled = target != IGNORE
    true_class = target.where(is_labelled, 0)  # a class to look up, its weight below is 0
    weight = is_labelled.to(probabilities.dtype)
    p_true = probabilities.gather(1, true_class[:, None])[:, 0]  # (b, h, w)
    k = probabilities.shape[1]
    overlap = _sum_by_class(p_true * weight, true_class, k)
    actual = _sum_by_class(weight, true_class, k)
    predicted = (probabilities * weight[:, None]).sum(dim=(0, 2, 3))  # (k,)
    is_present = actual > 0
    # At least 1 where it counts; the 1 elsewhere keeps 0 / 0 out of the gradient.
    score = 2 * overlap / (predicted + actual).where(is_present, 1)
    return ((1 - score) * is_present).sum() / is_present.sum().clamp(min=1)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dice": dice}
"""Every loss by the name that parameters give it."""


def get_loss(name: str) -> Loss:
    """Return the loss called `name`.

    Raises:
        ValueError: for a name that is not in LOSSES.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; choose from {', '.join(LOSSES)}")
    return LOSSES[name]


def _sum_by_class(values: Tensor, classes: Tensor, k: int) -> Tensor:
    # Row by row, then over the rows: added one by one, a million float32 values lose their third
    # digit, and on a GPU they would all wait for the same few numbers.
    rows = values.new_zeros(*values.shape[:-1], k).scatter_add(-1, classes, values)  # (b, h, k)
    return rows.sum(dim=(0, 1))


def _at_least_float32(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
