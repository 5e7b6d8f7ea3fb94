"""Six families of loss weights computed from class frequencies."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassCounts:
    """The frequency of each of k classes in a set of frames.

    Attributes:
        pixels: (k,) pixels labeled with the class.
        frames: (k,) frames with at least one such pixel.
        frame_pixels: (k,) all pixels of those frames, void included.
        total_pixels: pixels of all frames, void included.
    """

    pixels: Floats
    frames: Floats
    frame_pixels: Floats
    total_pixels: float

    @classmethod
    def from_pixels(cls, per_frame: NDArray[np.int64], classes: list[int]) -> "ClassCounts":
        """Count the classes.

        Args:
            per_frame: (frames, ids) pixels of every label id; a row sums to the pixels of a frame.
            classes: the label ids of the k classes, in order.

        Raises:
            ValueError: if no pixel belongs to any class.
        """
        frame_pixels = per_frame.sum(axis=1).astype(np.float64)
        occurs = (per_frame[:, classes] > 0).astype(np.float64)  # (frames, k)
        pixels = per_frame[:, classes].sum(axis=0).astype(np.float64)
        if not pixels.any():
            raise ValueError(
                "frequency: no training frame has a labeled pixel, so no class weight is defined;"
                " check the label maps, or choose another remap.split"
            )
        return cls(pixels, occurs.sum(axis=0), frame_pixels @ occurs, float(frame_pixels.sum()))


WeightFamily = Callable[[ClassCounts], Floats]
"""Maps the counts of k classes to (k,) loss weights, each finite and at least 0.

A class that does not occur: `erfnet` and `enet` are bounded and give it their largest value,
1 / ln 1.10 and 1 / ln 1.02. The others would divide by 0 and give it weight 0 instead: no training
pixel uses that weight, and it does not shift the mean over the classes that occur.
"""


def erfnet(counts: ClassCounts) -> Floats:
    """1 / ln(1.10 + p), p the share of all pixels, void included.

    Source: the code published with ERFNet (IEEE T-ITS 2018). The official counts give its vector of
    weights to 0.005.
    """
    return np.asarray(1 / np.log(1.10 + counts.pixels / counts.total_pixels))


def enet(counts: ClassCounts) -> Floats:
    """1 / ln(1.02 + q), q the share of labeled pixels (ENet, arXiv:1606.02147, section 5.2)."""
    return np.asarray(1 / np.log(1.02 + _labeled_share(counts)))


def inverse(counts: ClassCounts) -> Floats:
    """1 / q, normalized: the inverse class frequency (as in arXiv:1901.05555, section 1)."""
    return _normalize(_reciprocal(_labeled_share(counts)))


def sqrt_inverse(counts: ClassCounts) -> Floats:
    """1 / sqrt(q), normalized: its smoothed form (cited there; from arXiv:1805.00932)."""
    return _normalize(np.sqrt(_reciprocal(_labeled_share(counts))))


def median(counts: ClassCounts) -> Floats:
    """Median of f over f, f a class's share of the pixels of the frames that contain it.

    Source: median frequency balancing, arXiv:1411.4734. The median is over the classes that occur.
    """
    inverse_share = _reciprocal(counts.pixels) * counts.frame_pixels
    present = inverse_share > 0
    return np.asarray(np.median(1 / inverse_share[present]) * inverse_share)


def effective_number(counts: ClassCounts, *, beta: float) -> Floats:
    """(1 - beta) / (1 - beta^n), normalized, n the frames that contain the class.

    Source: arXiv:1901.05555, sections 3.2 and 4. A sample is a frame, not a pixel: neighboring
    pixels are redundant, and with millions of them every beta in use would give all classes the
    same weight.

    Args:
        counts: of the classes.
        beta: in [0, 1); 0 weighs all classes equally, towards 1 the weights approach 1 / n.
    """
    return _normalize((1 - beta) * _reciprocal(1 - np.power(beta, counts.frames)))


def weight_families(beta: float) -> dict[str, WeightFamily]:
    """Return the families of loss weights by name; `beta` is the one of `effective_number`."""
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
    """(k,): 1 over each value; 0 for a value of 0, that is for a class that never occurs."""
    return np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def _normalize(weights: Floats) -> Floats:
    """(k,): scaled to a mean of 1 over the classes that occur (arXiv:1901.05555, section 4)."""
    return np.asarray(weights * np.count_nonzero(weights) / weights.sum())
