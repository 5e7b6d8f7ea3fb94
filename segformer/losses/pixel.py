"""Losses that are a mean over pixels: cross-entropy, weighted, with OHEM, and focal loss.

The mean is over the pixels of all processes in data-parallel training.
"""

import math

from torch import Tensor

from segformer.cityscapes import IGNORE
from segformer.distributed import all_reduce_shared
from segformer.losses.softmax_sums import log_probability

OHEM_THRESHOLD = 0.7
"""OHEM: a pixel is easy if its true class has at least this probability (PaddleSeg's default)."""

OHEM_KEEP_ONE_IN = 16
"""OHEM: at least one in this many labeled pixels is kept (the rule of BiSeNet's public code)."""

FOCAL_GAMMA = 2.0
"""Focal loss: the exponent of 1 - p (the best value in arXiv:1708.02002)."""


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over the labeled pixels of -log p(true class).

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    return mean_over_labeled(-log_probability(scores, target), target)


def weighted_cross_entropy(scores: Tensor, target: Tensor, class_weights: Tensor) -> Tensor:
    """Mean of -log p(true class), weighted by the weight of the true class.

    The sum of the weighted losses is divided by the sum of the weights of the labeled pixels, as in
    PyTorch's `cross_entropy(weight=...)`, so that the scale of the weights does not matter.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.
        class_weights: (k,), 0 or more; best on the device of the scores.

    Returns:
        A scalar, at least float32; 0 if no pixel has a weight. Its minimum is 0.

    Raises:
        ValueError: if there is not one weight per class.
    """
    k = scores.shape[1]
    if class_weights.shape != (k,):
        raise ValueError(
            f"class_weights: {tuple(class_weights.shape)} weights for scores of {k} classes; "
            f"give one per class, ({k},)"
        )
    losses = -log_probability(scores, target)
    is_labeled = target != IGNORE
    weights = class_weights.to(losses)[target.where(is_labeled, 0)] * is_labeled  # (b, h, w)
    total = all_reduce_shared(weights.sum())
    return all_reduce_shared((weights * losses).sum()) / total.where(total > 0, 1)


def ohem_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Mean of -log p(true class) over the hard pixels (online hard example mining, OHEM).

    Labeled pixels with p(true class) below OHEM_THRESHOLD are hard. If these are fewer than one in
    OHEM_KEEP_ONE_IN of the labeled pixels, rounded up, that many of the hardest are kept instead;
    all pixels that tie with the last of them are kept, so that their order never matters. No
    gradient passes through the selection. Hence the value need not fall at every step of a
    training: pixels that become easy leave the mean.

    In data-parallel training each process keeps at least one in OHEM_KEEP_ONE_IN of its own pixels.
    A single process keeps the same pixels, unless this minimum applies in one of the processes.

    Source: arXiv:1604.03540, and for the pixels of a segmentation arXiv:1605.06885 (whose
    minimum is a fixed number of pixels, where this one is a share).

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    losses = -log_probability(scores, target)
    is_labeled = target != IGNORE
    is_kept = is_labeled & ~_is_easy(losses.detach(), is_labeled)
    return all_reduce_shared(losses.where(is_kept, 0).sum()) / all_reduce_shared(
        is_kept.sum()
    ).clamp(min=1)


def focal(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over the labeled pixels of -(1 - p)^gamma log p, p the true class's probability.

    Gamma is FOCAL_GAMMA; there are no class weights. Source: arXiv:1708.02002, equation 4, whose
    sum is divided by the number of anchors assigned to an object, here by that of labeled pixels.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    logs = log_probability(scores, target)
    return mean_over_labeled(-logs * (1 - logs.exp()).pow(FOCAL_GAMMA), target)


def mean_over_labeled(losses: Tensor, target: Tensor) -> Tensor:
    """Mean of per-pixel losses over the labeled pixels; 0 if there are none.

    Args:
        losses: (b, h, w), 0 at void.
        target: (b, h, w) train ids.
    """
    return all_reduce_shared(losses.sum()) / all_reduce_shared((target != IGNORE).sum()).clamp(
        min=1
    )


def _is_easy(losses: Tensor, is_labeled: Tensor) -> Tensor:
    # Tensors only, no Python numbers: nothing waits for a GPU. A nan compares as not easy, so that
    # it is kept and shows in the loss. Void has loss 0, the smallest: it is never kept.
    min_kept = (is_labeled.sum() + OHEM_KEEP_ONE_IN - 1) // OHEM_KEEP_ONE_IN
    max_kept = -(-losses.numel() // OHEM_KEEP_ONE_IN)
    hardest = losses.flatten().topk(max_kept).values  # descending
    last_kept = hardest.gather(0, (min_kept - 1).clamp(min=0)[None])
    return (losses <= -math.log(OHEM_THRESHOLD)) & (losses < last_kept)
