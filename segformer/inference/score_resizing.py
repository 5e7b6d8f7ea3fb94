"""Resize scores to the size of the result and reduce them to classes there, in bands of rows.

At 1024x2048 the scores of 19 classes are 160 MB; a band of them stays in the CPU's cache.

Letters: k classes, h w rows and columns of scores, r rows of a band.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_BYTES_ON_CPU = 2**22
_BYTES_ON_GPU = 2**28
"""Size of a band's scores: a GPU is faster with few large bands."""


class Prediction(NamedTuple):
    """(H, W) uint8 classes, and (H, W) float32 confidence, their softmax probability, 1/k..1."""

    classes: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class WindowScores:
    """The scores of one window of an image.

    Attributes:
        scores: (k, h, w).
        top: first row of the window, in pixels of the image.
        left: first column.
        rows: rows of the window, in pixels; h is usually a quarter of them.
        columns: likewise.
    """

    scores: Tensor
    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True)
class ScaledScores:
    """The scores of an image at one scale.

    Attributes:
        size: rows and columns of the image at this scale, in pixels.
        windows: together they cover the image.
    """

    size: tuple[int, int]
    windows: Sequence[WindowScores]


def as_single_window(scores: Tensor) -> ScaledScores:
    """(k, h, w) scores of an image -> the image as a single window, h rows and w columns."""
    rows, columns = scores.shape[1:]
    return ScaledScores((rows, columns), [WindowScores(scores, 0, 0, rows, columns)])


def resize_and_argmax(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """(k, h, w) -> (*size,) uint8: the class with the largest score, after bilinear resizing.

    Of equal scores, the first class is chosen.
    """
    output = size[0], size[1]
    placed = _place_windows(as_single_window(scores), output)
    classes = torch.empty(output, dtype=torch.uint8, device=scores.device)
    for start, stop in _bands(scores, output):
        classes[start:stop] = _band_scores(placed, start, stop, output[1]).max(0).indices
    return classes


def reduce_scores(scales: Sequence[ScaledScores], size: tuple[int, int]) -> Prediction:
    """Reduce the scores of an image at all scales to a prediction, each resized bilinearly.

    The scores of overlapping windows are averaged; the softmax is averaged over several scales. The
    memory needed is a band and the result.

    Args:
        scales: one or more.
        size: rows and columns of the result.
    """
    first = scales[0].windows[0].scores
    placed = [_place_windows(scale, size) for scale in scales]
    classes = torch.empty(size, dtype=torch.uint8, device=first.device)
    confidence = torch.empty(size, device=first.device)
    for start, stop in _bands(first, size):
        if len(placed) == 1:
            largest, indices, total = _max_and_exp_sum(
                _band_scores(placed[0], start, stop, size[1])
            )
            confidence[start:stop] = total.reciprocal_()
        else:
            largest, indices = _mean_softmax(placed, start, stop, size[1]).max(0)
            # Rounding may lead to a sum above 1.
            confidence[start:stop] = largest.clamp_(max=1)
        classes[start:stop] = indices
    return Prediction(classes, confidence)


@dataclass(frozen=True)
class _Axis:
    """The positions of pixels `first` to `stop` of the result among a window's rows or columns."""

    first: int
    stop: int
    lower: Tensor  # index of the score before each pixel's center
    upper: Tensor  # index of the score after it
    weight: Tensor  # of `upper`, 0..1
    is_aligned: bool  # the edges of the window are pixel edges of the result


class _PlacedWindow(NamedTuple):
    scores: Tensor
    rows: _Axis
    columns: _Axis


def _place_windows(scale: ScaledScores, size: tuple[int, int]) -> list[_PlacedWindow]:
    def place(window: WindowScores) -> _PlacedWindow:
        # At least float32, also for scores in half precision, such as those of autocast.
        scores = window.scores.to(torch.promote_types(window.scores.dtype, torch.float32))
        spans = (window.top, window.rows), (window.left, window.columns)
        rows, columns = (
            _map_axis(*span, scores.shape[1 + i], (scale.size[i], size[i]), scores)
            for i, span in enumerate(spans)
        )
        return _PlacedWindow(scores, rows, columns)

    return [place(window) for window in scale.windows]


def _map_axis(
    start: int, extent: int, num_scores: int, lengths: tuple[int, int], reference: Tensor
) -> _Axis:
    """Map pixels of the result to the scores of a window along one axis.

    A pixel of the result belongs to the windows in which its center lies.

    Args:
        start: first pixel of the window, at its scale.
        extent: pixels of the window, at its scale.
        num_scores: rows or columns of the window's scores.
        lengths: pixels of the image at this scale, and of the result.
        reference: gives the device and type.
    """
    length, size = lengths
    first, stop = (
        -((length - 2 * size * end) // (2 * length)) for end in (start, start + extent)
    )  # in integers: no center on an edge is lost to rounding
    centers = torch.arange(first, stop, dtype=torch.float64) + 0.5
    position = (centers * length / size - start) * num_scores / extent - 0.5
    position.clamp_(0, num_scores - 1)
    lower = position.floor()
    return _Axis(
        first,
        stop,
        lower.long().to(reference.device),
        (lower.long() + 1).clamp_(max=num_scores - 1).to(reference.device),
        (position - lower).to(reference),
        (start * size) % length == 0 and (extent * size) % length == 0,
    )


def _bands(scores: Tensor, size: tuple[int, int]) -> list[tuple[int, int]]:
    max_bytes = _BYTES_ON_GPU if scores.is_cuda else _BYTES_ON_CPU
    rows = max(1, max_bytes // (4 * scores.shape[0] * size[1]))
    return [(start, min(start + rows, size[0])) for start in range(0, size[0], rows)]


def _band_scores(placed: Sequence[_PlacedWindow], start: int, stop: int, columns: int) -> Tensor:
    """(k, r, columns): the scores of one scale in rows `start` to `stop` of the result."""
    if len(placed) == 1:
        return _resize_window(placed[0], start, stop)
    scores = placed[0].scores
    total = scores.new_zeros(len(scores), stop - start, columns)
    counts = scores.new_zeros(stop - start, columns)
    for window in placed:
        first, last = max(start, window.rows.first), min(stop, window.rows.stop)
        if first < last:
            part = (
                slice(first - start, last - start),
                slice(window.columns.first, window.columns.stop),
            )
            total[:, *part] += _resize_window(window, first, last)
            counts[part] += 1
    return total.div_(counts)


def _resize_window(window: _PlacedWindow, start: int, stop: int) -> Tensor:
    """(k, r, columns of the window): the scores in rows `start` to `stop` of the result."""
    rows, columns = window.rows, window.columns
    selected = slice(start - rows.first, stop - rows.first)
    weight = rows.weight[selected, None]
    lower, upper = (window.scores[:, index[selected]] for index in (rows.lower, rows.upper))
    tall = torch.lerp(lower, upper, weight)  # (k, r, w)
    if columns.is_aligned:  # twice as fast as gathering by index
        width = columns.stop - columns.first
        return F.interpolate(tall, size=width, mode="linear", align_corners=False)
    return torch.lerp(tall[..., columns.lower], tall[..., columns.upper], columns.weight)


def _max_and_exp_sum(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(k, r, w) -> largest score, its class, and the sum of exp(scores - largest); (r, w) each.

    Overwrites the scores with these exponentials.
    """
    largest, indices = scores.max(0)
    return largest, indices, scores.sub_(largest).exp_().sum(0)


def _mean_softmax(
    placed: Sequence[Sequence[_PlacedWindow]], start: int, stop: int, columns: int
) -> Tensor:
    mean: Tensor | None = None
    for windows in placed:
        scores = _band_scores(windows, start, stop, columns)
        share = scores.div_(_max_and_exp_sum(scores)[2].mul_(len(placed)))
        mean = share if mean is None else mean.add_(share)
    assert mean is not None
    return mean
