"""Overlap losses, a mean over classes: Dice, log Dice and Jaccard.

All sums run over the labeled pixels of the whole batch, in all processes: two images count as one
of twice the size. A class is present if it has at least one labeled pixel; an absent class counts
neither in the sum nor in the mean, so that the scale does not depend on the classes in a crop.
(Pixels wrongly predicted as an absent class still increase the loss: their true class misses them.)
There is no smoothing term.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from segformer.cityscapes import IGNORE
from segformer.distributed import all_gather, all_reduce_shared
from segformer.losses.softmax_sums import log_probability_and_class_sums


@dataclass(frozen=True)
class ClassSums:
    """Sums over the labeled pixels, (k,) each; p is the softmax, t is 1 at pixels of the class.

    Attributes:
        intersection: sum(p t).
        predicted: sum(p).
        actual: sum(t).
    """

    intersection: Tensor
    predicted: Tensor
    actual: Tensor


def dice(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over the classes present of 1 - Dice, Dice = 2 sum(p t) / (sum(p) + sum(t)).

    Source: arXiv:1606.04797, section 3, with p and t in place of their squares.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0, its maximum 1.
    """
    return dice_from_sums(
        compute_class_sums(*log_probability_and_class_sums(scores, target), target)
    )


def log_dice(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over the classes present of -log Dice, with the Dice of `dice`.

    The log of sum(p t) is a log-sum-exp of log p, class by class. If no pixel of a class has a
    probability above 0 in float32, the value is still finite and right (about as large as the
    scores), and the gradient with respect to the log p of a class still sums to 1 over k.

    Source: arXiv:1809.00076, its Dice term with exponent 1 and without the pseudo-count.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    logs, predicted = log_probability_and_class_sums(scores, target)
    actual = _sum_by_class(torch.ones_like(logs), target, len(predicted))
    total = (all_reduce_shared(predicted) + actual).where(actual > 0, 1)
    log_score = math.log(2) + _log_sum_by_class(logs, target, actual) - total.log()
    return _mean_over_present(-log_score, actual)


def jaccard(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over the classes present of 1 - J, J = sum(p t) / (sum(p) + sum(t) - sum(p t)).

    This is the Jaccard metric loss with the L1 norm: with labels of 0 and 1, its
    J = (|p| + |t| - |p - t|) / (|p| + |t| + |p - t|) is the one above; with a prediction of 0 and 1
    it is the IoU. Source: arXiv:2302.05666.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0, its maximum 1.
    """
    return jaccard_from_sums(
        compute_class_sums(*log_probability_and_class_sums(scores, target), target)
    )


def compute_class_sums(logs: Tensor, predicted: Tensor, target: Tensor) -> ClassSums:
    """Return the sums of Dice and Jaccard over all processes.

    Args:
        logs: (b, h, w) log probability of the true class; any value at void.
        predicted: (k,) probability of each class, summed over the labeled pixels of this process.
        target: (b, h, w) int64 train ids.
    """
    k = len(predicted)
    return ClassSums(
        intersection=_sum_by_class(logs.exp(), target, k),
        predicted=all_reduce_shared(predicted),
        actual=_sum_by_class(torch.ones_like(logs), target, k),
    )


def dice_from_sums(sums: ClassSums) -> Tensor:
    """Return the loss `dice` from its sums."""
    # At least 1 for present classes; 1 for the others keeps 0 / 0 out of the gradient.
    total = (sums.predicted + sums.actual).where(sums.actual > 0, 1)
    return _mean_over_present(1 - 2 * sums.intersection / total, sums.actual)


def jaccard_from_sums(sums: ClassSums) -> Tensor:
    """Return the loss `jaccard` from its sums."""
    union = (sums.predicted + sums.actual - sums.intersection).where(sums.actual > 0, 1)
    return _mean_over_present(1 - sums.intersection / union, sums.actual)


def _mean_over_present(losses: Tensor, actual: Tensor) -> Tensor:
    is_present = actual > 0
    return losses.where(is_present, 0).sum() / is_present.sum().clamp(min=1)


def _sum_by_class(values: Tensor, target: Tensor, k: int) -> Tensor:
    # (b, h, w) -> (k,), over all processes. Per row, then over rows: added one by one, a million
    # float32 values lose their third digit, and on a GPU all atomics contend for k addresses.
    is_labeled = target != IGNORE
    classes = target.where(is_labeled, 0)
    rows = values.new_zeros(*values.shape[:-1], k)
    return all_reduce_shared(
        rows.scatter_add(-1, classes, values.where(is_labeled, 0)).sum(dim=(0, 1))
    )


def _log_sum_by_class(logs: Tensor, target: Tensor, actual: Tensor) -> Tensor:
    # (b, h, w) -> (k,): the log of the sum of exp(logs); 0 for absent classes.
    is_labeled = target != IGNORE
    classes = target.where(is_labeled, 0)
    rows = logs.new_full((*logs.shape[:-1], len(actual)), -math.inf)
    values = logs.detach().where(is_labeled, -math.inf)
    largest = rows.scatter_reduce(-1, classes, values, "amax").amax(dim=(0, 1))
    largest = torch.stack(all_gather(largest)).amax(dim=0)
    largest = largest.where(largest.isfinite(), 0)
    ratios = (logs - largest[classes]).where(is_labeled, 0).exp()
    return largest + _sum_by_class(ratios, target, len(actual)).where(actual > 0, 1).log()
