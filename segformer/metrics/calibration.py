"""Expected calibration error (arXiv:1706.04599): how far confidence is from success."""

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from segformer.cityscapes import IGNORE

NUM_BINS = 15
"""The paper's number of bins."""


@dataclass(frozen=True)
class Reliability:
    """The reliability table: a row per bin of confidence, all (m,) float64.

    `confidence` and `accuracy` are means over the bin's pixels, 0..1, nan where there is none; a
    bin holds confidences over `lower` and up to `upper`.
    """

    lower: Tensor
    upper: Tensor
    pixels: Tensor
    confidence: Tensor
    accuracy: Tensor


def confidence(scores: Tensor) -> Tensor:
    """(b, k, h, w) scores -> (b, h, w) float32: the largest of the softmax, 1/k..1.

    Never holds more than a few maps beside the scores: at 1024x2048 their softmax would be 160 MB.
    """
    exact = torch.promote_types(scores.dtype, torch.float32)
    largest = scores.amax(1).to(exact)
    total = torch.zeros_like(largest)
    for one in scores.unbind(1):
        total += (one - largest).exp_()
    return total.reciprocal_().float()


def calibration_counts(
    confidences: Tensor, predicted: Tensor, target: Tensor, *, num_bins: int = NUM_BINS
) -> Tensor:
    """Count labeled pixels, their confidence and the right ones among them, per bin of confidence.

    Args:
        confidences: (b, h, w) float32, 0..1, in the predicted class; see `confidence`.
        predicted: (b, h, w) integers, a class per pixel.
        target: (b, h, w) integers, a train id per pixel; pixels at IGNORE are left out.
        num_bins: m bins of equal width; the i-th, from 1, holds (i - 1) / m < confidence <= i / m.

    Returns:
        (m, 3) float64 on the same device: pixels, sum of their confidence, number right. A set of
        frames is scored by the sum of its counts. Up to 2**24 pixels and 32 classes the sums are
        exact, so that no order of summation changes a bit.

    Raises:
        ValueError: for shapes that differ, a confidence that is none, or no bins.
    """
    if not confidences.shape == predicted.shape == target.shape:
        raise ValueError(
            f"confidence {tuple(confidences.shape)}, prediction {tuple(predicted.shape)} and label "
            f"{tuple(target.shape)} differ in shape; resize the scores to the label's size"
        )
    if num_bins < 1:
        raise ValueError(f"{num_bins} bins hold nothing; the paper takes {NUM_BINS}")
    is_void = target == IGNORE
    sure = confidences.masked_fill(is_void, 0).double()
    if sure.numel() and not 0 <= sure.min() <= sure.max() <= 1:
        raise ValueError(
            f"a confidence is {float(sure.min())} or {float(sure.max())}; allowed are 0 to 1: "
            "take them of scores with `confidence`"
        )
    # The product is exact in float64, so nothing is rounded across a bin's edge. Void is bin 0.
    bins = (sure * num_bins).ceil_().clamp_(min=1).int().masked_fill_(is_void, 0).flatten()
    right = (predicted == target).flatten()
    pixels = (bins * 2 + right).bincount(minlength=2 * (num_bins + 1)).reshape(-1, 2)
    # Not bincount with weights, which refuses to run on a GPU with deterministic algorithms.
    total = sure.new_zeros(num_bins + 1).index_add_(0, bins, sure.flatten())
    return torch.stack([pixels.sum(1).double(), total, pixels[:, 1].double()], dim=1)[1:]


def expected_calibration_error(counts: ArrayLike | Tensor) -> Tensor:
    """(..., m, 3) sums of `calibration_counts` -> (...) float64, 0..1; nan without any pixel.

    The mean over pixels of |accuracy - confidence| of the bin that a pixel is in.
    """
    pixels, confident, right = torch.as_tensor(counts).unbind(-1)
    return (right - confident).abs().sum(-1) / pixels.sum(-1)


def reliability(counts: ArrayLike | Tensor) -> Reliability:
    """(m, 3) sums of `calibration_counts` -> the table to print or draw."""
    pixels, confident, right = torch.as_tensor(counts).unbind(-1)
    edges = torch.arange(len(pixels) + 1, dtype=torch.float64, device=pixels.device) / len(pixels)
    return Reliability(edges[:-1], edges[1:], pixels, confident / pixels, right / pixels)
