"""Reference losses from their formulas, in float64, with loops over pixels and classes."""

import math
from collections.abc import Callable

from torch import Tensor

VOID = 255
Pixel = tuple[list[float], int]
"""The probability of each class, and the true class."""


def labeled_pixels(scores: Tensor, target: Tensor) -> list[Pixel]:
    """Return the softmax of every pixel that is not void."""
    b, _, h, w = scores.shape
    pixels = []
    for image in range(b):
        for row in range(h):
            for column in range(w):
                truth = int(target[image, row, column])
                if truth != VOID:
                    pixel_scores = [float(score) for score in scores[image, :, row, column]]
                    powers = [math.exp(score - max(pixel_scores)) for score in pixel_scores]
                    pixels.append(([power / sum(powers) for power in powers], truth))
    return pixels


def mean(values: list[float]) -> float:
    """Return the mean; 0 for no values."""
    return sum(values) / len(values) if values else 0.0


def ce(pixels: list[Pixel]) -> float:
    """Mean of -log p."""
    return mean([-math.log(p[truth]) for p, truth in pixels])


def weighted_ce(pixels: list[Pixel], weights: list[float]) -> float:
    """Weighted mean of -log p."""
    losses = [-math.log(p[truth]) * weights[truth] for p, truth in pixels]
    return sum(losses) / sum(weights[truth] for _, truth in pixels) if pixels else 0.0


def ohem_ce(pixels: list[Pixel]) -> float:
    """Mean of -log p where p < 0.7, and over the hardest sixteenth at least."""
    hardest_first = sorted(p[truth] for p, truth in pixels)
    min_kept = math.ceil(len(pixels) / 16)
    kept = [p for i, p in enumerate(hardest_first) if p < 0.7 or i < min_kept]
    return mean([-math.log(p) for p in kept])


def focal(pixels: list[Pixel]) -> float:
    """Mean of -(1 - p)^2 log p."""
    return mean([-((1 - p[truth]) ** 2) * math.log(p[truth]) for p, truth in pixels])


def dice_scores(pixels: list[Pixel]) -> list[float]:
    """2 sum(p t) / sum(p + t) of each class present."""
    scores = []
    for c in sorted({truth for _, truth in pixels}):
        intersection = sum(p[c] for p, truth in pixels if truth == c)
        scores.append(2 * intersection / sum(p[c] + (truth == c) for p, truth in pixels))
    return scores


def dice(pixels: list[Pixel]) -> float:
    """Mean of 1 - Dice."""
    return mean([1 - score for score in dice_scores(pixels)])


def log_dice(pixels: list[Pixel]) -> float:
    """Mean of -log Dice."""
    return mean([-math.log(score) for score in dice_scores(pixels)])


def jaccard(pixels: list[Pixel]) -> float:
    """Mean of 1 - (|p| + |t| - |p - t|) / (|p| + |t| + |p - t|), with L1 norms."""
    losses = []
    for c in sorted({truth for _, truth in pixels}):
        total = sum(p[c] + (truth == c) for p, truth in pixels)
        difference = sum(abs(p[c] - (truth == c)) for p, truth in pixels)
        losses.append(1 - (total - difference) / (total + difference))
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
"""Reference losses by name; without `weighted_ce`, which needs its weights."""


def reference_loss(name: str, scores: Tensor, target: Tensor, weights: Tensor) -> float:
    """Return the loss called `name`; the weights, (k,), are for `weighted_ce` only."""
    pixels = labeled_pixels(scores, target)
    if name == "weighted_ce":
        return weighted_ce(pixels, weights.tolist())
    return REFERENCE_LOSSES[name](pixels)
