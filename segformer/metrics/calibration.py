"""Expected calibration error and reliability diagram (arXiv:1706.04599)."""

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from segformer.cityscapes import IGNORE

NUM_BINS = 15
"""Number of bins in the paper."""


@dataclass(frozen=True)
class Reliability:
    """The values of a reliability diagram, all (m,) float64, one per bin of confidence.

    Attributes:
        lower: lower edge of the bin, excluded.
        upper: upper edge, included.
        pixels: number of pixels in the bin.
        confidence: mean confidence of these pixels, 0..1; nan for an empty bin.
        accuracy: share of these pixels predicted correctly, 0..1; nan for an empty bin.
    """

    lower: Tensor
    upper: Tensor
    pixels: Tensor
    confidence: Tensor
    accuracy: Tensor


def confidence(scores: Tensor) -> Tensor:
    """(b, k, h, w) scores -> (b, h, w) float32: the largest softmax probability, 1/k..1.

    Allocates only a few (b, h, w) maps: at 1024x2048 the softmax of one image would be 160 MB.
    """
    exact = torch.promote_types(scores.dtype, torch.float32)
    largest = scores.amax(1).to(exact)
    total = torch.zeros_like(largest)
    for class_scores in scores.unbind(1):
        total += (class_scores - largest).exp_()
    return total.reciprocal_().float()


def calibration_counts(
    confidences: Tensor, predicted: Tensor, target: Tensor, *, num_bins: int = NUM_BINS
) -> Tensor:
    """Count labeled pixels, their confidence and the correct ones, per bin of confidence.

    Args:
        confidences: (b, h, w) float32, 0..1, of the predicted class; see `confidence`.
        predicted: (b, h, w) integers, a class per pixel.
        target: (b, h, w) integers, a train id per pixel; pixels at IGNORE are left out.
        num_bins: m bins of equal width; the i-th, from 1, holds (i - 1) / m < confidence <= i / m.

    Returns:
        (m, 3) float64 on the same device: pixels, sum of their confidence, number correct. A set
        of frames is scored by the sum of its counts. Up to 2**24 pixels and 32 classes the sums are
        exact, so that the order of summation does not change a bit.

    Raises:
        ValueError: for shapes that differ, a confidence outside 0..1, or no bins.
    """
    if not confidences.shape == predicted.shape == target.shape:
        raise ValueError(
            f"confidence {tuple(confidences.shape)}, prediction {tuple(predicted.shape)} and label "
            f"{tuple(target.shape)} differ in shape; resize the scores to the label's size"
        )
    if num_bins < 1:
        raise ValueError(
            f"num_bins is {num_bins}; it must be at least 1 (the paper has {NUM_BINS})"
        )
    is_void = target == IGNORE
    values = confidences.masked_fill(is_void, 0).double()
    if values.numel() and not 0 <= values.min() <= values.max() <= 1:
        raise ValueError(
            f"confidences range from {float(values.min())} to {float(values.max())}; allowed are "
            "0 to 1: compute them from scores with `confidence`"
        )
    # The product is exact in float64: nothing is rounded across the edge of a bin. Void is bin 0.
    bins = (values * num_bins).ceil_().clamp_(min=1).int().masked_fill_(is_void, 0).flatten()
    correct = (predicted == target).flatten()
    pixels = (bins * 2 + correct).bincount(minlength=2 * (num_bins + 1)).reshape(-1, 2)
    # Not bincount with weights, which raises on a GPU with deterministic algorithms.
    total = values.new_zeros(num_bins + 1).index_add_(0, bins, values.flatten())
    return torch.stack([pixels.sum(1).double(), total, pixels[:, 1].double()], dim=1)[1:]


def expected_calibration_error(counts: ArrayLike | Tensor) -> Tensor:
    """(..., m, 3) sums of `calibration_counts` -> (...) float64, 0..1; nan without pixels.

    The mean over bins of |accuracy - confidence|, weighted by the pixels of the bin.
    """
    pixels, confidence_sum, correct = torch.as_tensor(counts).unbind(-1)
    return (correct - confidence_sum).abs().sum(-1) / pixels.sum(-1)


def reliability(counts: ArrayLike | Tensor) -> Reliability:
    """(m, 3) sums of `calibration_counts` -> the reliability diagram."""
    pixels, confidence_sum, correct = torch.as_tensor(counts).unbind(-1)
    edges = torch.arange(len(pixels) + 1, dtype=torch.float64, device=pixels.device) / len(pixels)
    return Reliability(edges[:-1], edges[1:], pixels, confidence_sum / pixels, correct / pixels)
