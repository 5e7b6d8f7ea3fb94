"""Every loss from its formula, in float64, with loops over pixels and classes; slow on purpose."""

import math
from collections.abc import Callable

from torch import Tensor

VOID = 255
Pixel = tuple[list[float], int]
"""The probability of each class, and the true class."""


def labeled_pixels(scores: Tensor, target: Tensor) -> list[Pixel]:
    """The softmax of every pixel that is not void."""
    b, _, h, w = scores.shape
    pixels = []
    for image in range(b):
        for row in range(h):
            for column in range(w):
                truth = int(target[image, row, column])
                if truth != VOID:
                    one = [float(score) for score in scores[image, :, row, column]]
                    powers = [math.exp(score - max(one)) for score in one]
                    pixels.append(([power / sum(powers) for power in powers], truth))
    return pixels


def mean(values: list[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def ce(pixels: list[Pixel]) -> float:
    """Mean of -log p."""
    return mean([-math.log(p[truth]) for p, truth in pixels])


def weighted_ce(pixels: list[Pixel], weights: list[float]) -> float:
    """Weighted mean of -log p."""
    costs = [-math.log(p[truth]) * weights[truth] for p, truth in pixels]
    return sum(costs) / sum(weights[truth] for _, truth in pixels) if pixels else 0.0


def ohem_ce(pixels: list[Pixel]) -> float:
    """Mean of -log p where p < 0.7, and over the hardest sixteenth at least."""
    worst_first = sorted(p[truth] for p, truth in pixels)
    at_least = math.ceil(len(pixels) / 16)
    kept = [p for i, p in enumerate(worst_first) if p < 0.7 or i < at_least]
    return mean([-math.log(p) for p in kept])


def focal(pixels: list[Pixel]) -> float:
    """Mean of -(1 - p)^2 log p."""
    return mean([-((1 - p[truth]) ** 2) * math.log(p[truth]) for p, truth in pixels])


def dice_scores(pixels: list[Pixel]) -> list[float]:
    """2 sum(p t) / sum(p + t) of each class present."""
    scores = []
    for c in sorted({truth for _, truth in pixels}):
        shared = sum(p[c] for p, truth in pixels if truth == c)
        scores.append(2 * shared / sum(p[c] + (truth == c) for p, truth in pixels))
    return scores


def dice(pixels: list[Pixel]) -> float:
    """Mean of 1 - Dice."""
    return mean([1 - score for score in dice_scores(pixels)])


def log_dice(pixels: list[Pixel]) -> float:
    """Mean of -log Dice."""
    return mean([-math.log(score) for score in dice_scores(pixels)])


def jaccard(pixels: list[Pixel]) -> float:
    """Mean of 1 - (|p| + |t| - |p - t|) / (|p| + |t| + |p - t|), norms being sums of magnitudes."""
    losses = []
    for c in sorted({truth for _, truth in pixels}):
        both = sum(p[c] + (truth == c) for p, truth in pixels)
        apart = sum(abs(p[c] - (truth == c)) for p, truth in pixels)
        losses.append(1 - (both - apart) / (both + apart))
    return mean(losses)


REFERENCE_LOSSES: dict[str, Callable[[list[Pixel]], float]] = {
    "ce": ce,
    "ohem_ce": ohem_ce,
    "focal": focal,
    "dice": dice,
    "log_dice": log_dice,
    "jaccard": jaccard,
    "ce_dice": lambda pixels: ce(pixels) + dice(pixels),
    "ce_jaccard": lambda pixels: 0.25 * ce(pixels) + 0.75 * jaccard(pixels),
}
"""By name; `weighted_ce` stands apart, because it needs its weights."""


def reference_loss(name: str, scores: Tensor, target: Tensor, weights: Tensor) -> float:
    """The loss called `name`; the weights, (k,), count for `weighted_ce` only."""
    pixels = labeled_pixels(scores, target)
    if name == "weighted_ce":
        return weighted_ce(pixels, weights.tolist())
    return REFERENCE_LOSSES[name](pixels)
