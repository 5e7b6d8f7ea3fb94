"""Scores brought to the label's size and reduced to classes there, in bands of rows.

At 1024x2048 the scores of 19 classes are 160 MB; a band of them stays in a CPU's cache.

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
"""Of the scores of a band: a GPU wants few and large ones."""


class Prediction(NamedTuple):
    """What a model sees: (H, W) uint8 classes, (H, W) float32 confidence in them, 1/k..1."""

    classes: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class WindowScores:
    """The scores of a part of a picture.

    Attributes:
        scores: (k, h, w).
        top: first row of the part, in pixels of the picture.
        left: first column.
        rows: of the part, in pixels; h is usually a quarter of them.
        columns: likewise.
    """

    scores: Tensor
    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True)
class ScaledScores:
    """A picture of some size, as rows and columns, and patches that together cover it."""

    size: tuple[int, int]
    windows: Sequence[WindowScores]


def as_single_window(scores: Tensor) -> ScaledScores:
    """(k, h, w) scores of a picture as a view of it."""
    rows, columns = scores.shape[1:]
    return ScaledScores((rows, columns), [WindowScores(scores, 0, 0, rows, columns)])


def resize_and_argmax(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """(k, h, w) -> (*size,) uint8: of scores resized bilinearly, the class of the largest.

    Of equal scores the first class has it.
    """
    output = size[0], size[1]
    placed = _place_windows(as_single_window(scores), output)
    classes = torch.empty(output, dtype=torch.uint8, device=scores.device)
    for start, stop in _bands(scores, output):
        classes[start:stop] = _band_scores(placed, start, stop, output[1]).max(0).indices
    return classes


def reduce_scores(scales: Sequence[ScaledScores], size: tuple[int, int]) -> Prediction:
    """Reduce the scores of all views of one picture, each resized bilinearly.

    Where patches of a view overlap, their scores are averaged; of several views the softmax is.
    Memory beyond the views: a band, and the result.

    Args:
        scales: one or more.
        size: rows and columns of the result.
    """
    first = scales[0].windows[0].scores
    placed = [_place_windows(view, size) for view in scales]
    classes = torch.empty(size, dtype=torch.uint8, device=first.device)
    confidence = torch.empty(size, device=first.device)
    for start, stop in _bands(first, size):
        if len(placed) == 1:
            largest, found, total = _max_and_exp_sum(_band_scores(placed[0], start, stop, size[1]))
            confidence[start:stop] = total.reciprocal_()
        else:
            largest, found = _mean_softmax(placed, start, stop, size[1]).max(0)
            # Sums of roundings may end beyond 1.
            confidence[start:stop] = largest.clamp_(max=1)
        classes[start:stop] = found
    return Prediction(classes, confidence)


@dataclass(frozen=True)
class _Axis:
    """Where the pixels `first` to `stop` of the result lie among a patch's rows or columns."""

    first: int
    stop: int
    lower: Tensor  # the cell before each pixel's center
    upper: Tensor  # the one behind it
    weight: Tensor  # of `above`, 0..1
    is_aligned: bool  # the part is cut at pixels of the result


class _PlacedWindow(NamedTuple):
    scores: Tensor
    rows: _Axis
    columns: _Axis


def _place_windows(view: ScaledScores, size: tuple[int, int]) -> list[_PlacedWindow]:
    def placed(patch: WindowScores) -> _PlacedWindow:
        # Exact for what a network computes in fewer bits, and what autocast has left of it.
        scores = patch.scores.to(torch.promote_types(patch.scores.dtype, torch.float32))
        spans = (patch.top, patch.rows), (patch.left, patch.columns)
        rows, columns = (
            _map_axis(*span, scores.shape[1 + i], (view.size[i], size[i]), scores)
            for i, span in enumerate(spans)
        )
        return _PlacedWindow(scores, rows, columns)

    return [placed(patch) for patch in view.windows]


def _map_axis(
    start: int, extent: int, cells: int, lengths: tuple[int, int], reference: Tensor
) -> _Axis:
    """Place `extent` pixels from `start` of a view, seen in `cells`; the view's length, and ours.

    A pixel of the result belongs to the part in which its center lies.
    """
    length, size = lengths
    first, stop = (
        -((length - 2 * size * end) // (2 * length)) for end in (start, start + extent)
    )  # in whole numbers: no center on an edge is lost to rounding
    centers = torch.arange(first, stop, dtype=torch.float64) + 0.5
    cell = ((centers * length / size - start) * cells / extent - 0.5).clamp_(0, cells - 1)
    below = cell.floor()
    return _Axis(
        first,
        stop,
        below.long().to(reference.device),
        (below.long() + 1).clamp_(max=cells - 1).to(reference.device),
        (cell - below).to(reference),
        (start * size) % length == 0 and (extent * size) % length == 0,
    )


def _bands(scores: Tensor, size: tuple[int, int]) -> list[tuple[int, int]]:
    at_most = _BYTES_ON_GPU if scores.is_cuda else _BYTES_ON_CPU
    rows = max(1, at_most // (4 * scores.shape[0] * size[1]))
    return [(start, min(start + rows, size[0])) for start in range(0, size[0], rows)]


def _band_scores(placed: Sequence[_PlacedWindow], start: int, stop: int, columns: int) -> Tensor:
    """(k, r, columns): one view's scores in rows `start` to `stop` of the result."""
    if len(placed) == 1:
        return _resize_window(placed[0], start, stop)
    scores = placed[0].scores
    total = scores.new_zeros(len(scores), stop - start, columns)
    times = scores.new_zeros(stop - start, columns)
    for one in placed:
        first, last = max(start, one.rows.first), min(stop, one.rows.stop)
        if first < last:
            part = slice(first - start, last - start), slice(one.columns.first, one.columns.stop)
            total[:, *part] += _resize_window(one, first, last)
            times[part] += 1
    return total.div_(times)


def _resize_window(one: _PlacedWindow, start: int, stop: int) -> Tensor:
    """(k, r, columns of the patch) of the result's rows `start` to `stop`."""
    rows, columns = one.rows, one.columns
    chosen = slice(start - rows.first, stop - rows.first)
    weight = rows.weight[chosen, None]
    tall = torch.lerp(one.scores[:, rows.lower[chosen]], one.scores[:, rows.upper[chosen]], weight)
    if columns.is_aligned:  # twice as fast as picking cells by their number
        width = columns.stop - columns.first
        return F.interpolate(tall, size=width, mode="linear", align_corners=False)
    return torch.lerp(tall[..., columns.lower], tall[..., columns.upper], columns.weight)


def _max_and_exp_sum(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(k, r, w) -> largest score, its class, and the sum of exponentials beside it; (r, w) each.

    Overwrites the scores with those exponentials.
    """
    largest, found = scores.max(0)
    return largest, found, scores.sub_(largest).exp_().sum(0)


def _mean_softmax(
    placed: Sequence[Sequence[_PlacedWindow]], start: int, stop: int, columns: int
) -> Tensor:
    mean: Tensor | None = None
    for view in placed:
        scores = _band_scores(view, start, stop, columns)
        share = scores.div_(_max_and_exp_sum(scores)[2].mul_(len(placed)))
        mean = share if mean is None else mean.add_(share)
    assert mean is not None
    return mean
