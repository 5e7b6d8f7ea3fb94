"""Losses that are a mean over pixels: cross-entropy and its weighted, mined and focused forms.

The pixels are those of all processes that train together.
"""

import math

from torch import Tensor

from segformer.cityscapes import IGNORE
from segformer.distributed import all_reduce_shared
from segformer.losses.softmax_sums import log_probability

OHEM_THRESHOLD = 0.7
"""OHEM: a pixel is easy from this probability of its true class on (PaddleSeg's default)."""

OHEM_KEEP_ONE_IN = 16
"""OHEM: at least one in so many labeled pixels is kept (the rule of BiSeNet's public code)."""

FOCAL_GAMMA = 2.0
"""Focal loss: the power of 1 - p (arXiv:1708.02002, found best there)."""


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
    """Mean of -log p(true class) in which a pixel counts with the weight of its true class.

    The sum of the weighted costs is divided by the weights of the labeled pixels, as PyTorch's
    `cross_entropy(weight=...)` does, so that the scale of the weights does not matter.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.
        class_weights: (k,), 0 or more; best on the device of the scores.

    Returns:
        A scalar, at least float32; 0 where no pixel has a weight. Its minimum is 0.

    Raises:
        ValueError: unless there is one weight per class.
    """
    k = scores.shape[1]
    if class_weights.shape != (k,):
        raise ValueError(
            f"class_weights: {tuple(class_weights.shape)} weights for scores of {k} classes; "
            f"give one per class, ({k},)"
        )
    costs = -log_probability(scores, target)
    is_labeled = target != IGNORE
    weights = class_weights.to(costs)[target.where(is_labeled, 0)] * is_labeled  # (b, h, w)
    total = all_reduce_shared(weights.sum())
    return all_reduce_shared((weights * costs).sum()) / total.where(total > 0, 1)


def ohem_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Mean of -log p(true class) over the hard pixels only (online hard example mining).

    Hard are the labeled pixels with p(true class) below EASY. If these are fewer than one in
    KEPT_ONE_IN of the labeled pixels, rounded up, the hardest that many are kept instead; of
    pixels that tie with the last of them all are kept, so that their order never matters. Which
    pixels are kept counts as given: no gradient passes through the choice. Hence the value need not
    fall at every step of a training: pixels that become easy leave the mean.

    Of several processes each keeps at least one in KEPT_ONE_IN of its own pixels. That is what one
    process with all of them does, unless so few are hard somewhere that this share is made up.

    Source: arXiv:1604.03540, and for the pixels of a segmentation arXiv:1605.06885 (which keeps a
    fixed number of them at least, where this keeps a share).

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out and never mined.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    costs = -log_probability(scores, target)
    is_labeled = target != IGNORE
    is_kept = is_labeled & ~_is_easy(costs.detach(), is_labeled)
    return all_reduce_shared(costs.where(is_kept, 0).sum()) / all_reduce_shared(
        is_kept.sum()
    ).clamp(min=1)


def focal(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over the labeled pixels of -(1 - p)^gamma log p, p the true class's probability.

    Gamma is FOCAL_GAMMA and there are no class weights. Source: arXiv:1708.02002, equation 4, whose
    sum is divided by the number of anchors that hold an object, here by that of labeled pixels.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids; pixels at IGNORE are left out.

    Returns:
        A scalar, at least float32; 0 where every pixel is void. Its minimum is 0.
    """
    logs = log_probability(scores, target)
    return mean_over_labeled(-logs * (1 - logs.exp()).pow(FOCAL_GAMMA), target)


def mean_over_labeled(costs: Tensor, target: Tensor) -> Tensor:
    """Mean of (b, h, w) costs over the labeled pixels; 0 where there are none.

    Args:
        costs: (b, h, w), 0 at void.
        target: (b, h, w) train ids.
    """
    return all_reduce_shared(costs.sum()) / all_reduce_shared((target != IGNORE).sum()).clamp(min=1)


def _is_easy(costs: Tensor, is_labeled: Tensor) -> Tensor:
    # Tensors only, no numbers: a GPU is not waited for. A cost of nan compares as not easy, so that
    # it is kept and seen. Void costs 0, the least there is: it is never among the hardest.
    fewest = (is_labeled.sum() + OHEM_KEEP_ONE_IN - 1) // OHEM_KEEP_ONE_IN
    enough = -(-costs.numel() // OHEM_KEEP_ONE_IN)
    hardest = costs.flatten().topk(enough).values  # falling
    last_kept = hardest.gather(0, (fewest - 1).clamp(min=0)[None])
    return (costs <= -math.log(OHEM_THRESHOLD)) & (costs < last_kept)
