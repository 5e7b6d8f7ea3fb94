"""Loss weights that follow from how often each class occurs: six families, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassCounts:
    """How often each of k classes occurs in a set of frames.

    Attributes:
        pixels: (k,) labelled with the class.
        frames: (k,) with at least one such pixel.
        frame_pixels: (k,) pixels of those frames, whatever they are labelled, void included.
        total_pixels: of all frames, void included.
    """

    pixels: Floats
    frames: Floats
    frame_pixels: Floats
    total_pixels: float

    @classmethod
    def from_pixels(cls, per_frame: NDArray[np.int64], classes: list[int]) -> "ClassCounts":
        """Count.

        Args:
            per_frame: (frames, ids) pixels of every label id, so that a row sums to the frame.
            classes: the ids that are classes, k of them in their order.

        Raises:
            ValueError: if no pixel belongs to any class.
        """
        frame_pixels = per_frame.sum(axis=1).astype(np.float64)
        occurs = (per_frame[:, classes] > 0).astype(np.float64)  # (frames, k)
        pixels = per_frame[:, classes].sum(axis=0).astype(np.float64)
        if not pixels.any():
            raise ValueError(
                "frequency: no training frame has a labelled pixel, so no weight can be derived;"
                " look at the label maps, or divide the frames otherwise (remap.split)"
            )
        return cls(pixels, occurs.sum(axis=0), frame_pixels @ occurs, float(frame_pixels.sum()))


WeightFamily = Callable[[ClassCounts], Floats]
"""From counts of k classes to (k,) loss weights, every one finite and 0 or more.

A class that does not occur: `erfnet` and `enet` are bounded and give it their largest value,
1 / ln 1.10 and 1 / ln 1.02. The others would divide by 0 and give it weight 0 instead: no training
pixel asks for the weight, and a mean over the classes that do occur is not shifted by it.
"""


def erfnet(counts: ClassCounts) -> Floats:
    """1 / ln(1.10 + p), p the share of all pixels, void included.

    Source: the code published with ERFNet (IEEE T-ITS 2018). The official counts give the vector
    written out there to 0.005.
    """
    return np.asarray(1 / np.log(1.10 + counts.pixels / counts.total_pixels))


def enet(counts: ClassCounts) -> Floats:
    """1 / ln(1.02 + q), q the share of labelled pixels (ENet, arXiv:1606.02147, section 5.2)."""
    return np.asarray(1 / np.log(1.02 + _labeled_share(counts)))


def inverse(counts: ClassCounts) -> Floats:
    """1 / q, scaled: the inverse class frequency (as in arXiv:1901.05555, section 1)."""
    return _normalize(_reciprocal(_labeled_share(counts)))


def sqrt_inverse(counts: ClassCounts) -> Floats:
    """1 / sqrt(q), scaled: its smoothed form (named there too; from arXiv:1805.00932)."""
    return _normalize(np.sqrt(_reciprocal(_labeled_share(counts))))


def median(counts: ClassCounts) -> Floats:
    """Median of f over f, f a class's share of the pixels of the frames that show it.

    Source: median frequency balancing, arXiv:1411.4734. The median is over the
    classes that occur.
    """
    inverse_share = _reciprocal(counts.pixels) * counts.frame_pixels
    present = inverse_share > 0
    return np.asarray(np.median(1 / inverse_share[present]) * inverse_share)


def effective_number(counts: ClassCounts, *, beta: float) -> Floats:
    """(1 - beta) / (1 - beta^n), scaled, n the frames that show the class.

    Source: arXiv:1901.05555, sections 3.2 and 4. A sample is a frame, not a pixel:
    neighbouring pixels say the same thing, and with their millions every beta in use would give
    all classes the same weight.

    Args:
        counts: of the classes.
        beta: 0 or more and below 1; 0 weighs all classes alike, towards 1 it becomes 1 / n.
    """
    return _normalize((1 - beta) * _reciprocal(1 - np.power(beta, counts.frames)))


def weight_families(beta: float) -> dict[str, WeightFamily]:
    """Return every family of loss weights by its name; `beta` is of `effective_number`."""
    return {
        "erfnet": erfnet,
        "enet": enet,
        "inverse": inverse,
        "sqrt_inverse": sqrt_inverse,
        "median": median,
        "effective_number": partial(effective_number, beta=beta),
    }


def _labeled_share(counts: ClassCounts) -> Floats:
    return np.asarray(counts.pixels / counts.pixels.sum())


def _reciprocal(values: Floats) -> Floats:
    """(k,): 1 over each value; 0 where the value is 0, as it is for a class that never occurs."""
    return np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def _normalize(weights: Floats) -> Floats:
    """(k,): with a mean of 1 over the classes that occur (arXiv:1901.05555, section 4)."""
    return np.asarray(weights * np.count_nonzero(weights) / weights.sum())
