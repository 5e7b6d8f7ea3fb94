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


class Seen(NamedTuple):
    """What a model sees: (H, W) uint8 classes, (H, W) float32 confidence in them, 1/k..1."""

    classes: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Patch:
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
class View:
    """A picture of some size, as rows and columns, and patches that together cover it."""

    size: tuple[int, int]
    patches: Sequence[Patch]


def whole(scores: Tensor) -> View:
    """(k, h, w) scores of a picture as a view of it."""
    rows, columns = scores.shape[1:]
    return View((rows, columns), [Patch(scores, 0, 0, rows, columns)])


def classes_at(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """(k, h, w) -> (*size,) uint8: of scores resized bilinearly, the class of the largest.

    Of equal scores the first class has it.
    """
    output = size[0], size[1]
    placed = _placed(whole(scores), output)
    classes = torch.empty(output, dtype=torch.uint8, device=scores.device)
    for start, stop in _bands(scores, output):
        classes[start:stop] = _scores(placed, start, stop, output[1]).max(0).indices
    return classes


def seen_at(views: Sequence[View], size: tuple[int, int]) -> Seen:
    """Reduce the scores of all views of one picture, each resized bilinearly.

    Where patches of a view overlap, their scores are averaged; of several views the softmax is.
    Memory beyond the views: a band, and the result.

    Args:
        views: one or more.
        size: rows and columns of the result.
    """
    first = views[0].patches[0].scores
    placed = [_placed(view, size) for view in views]
    classes = torch.empty(size, dtype=torch.uint8, device=first.device)
    confidence = torch.empty(size, device=first.device)
    for start, stop in _bands(first, size):
        if len(placed) == 1:
            largest, found, total = _largest(_scores(placed[0], start, stop, size[1]))
            confidence[start:stop] = total.reciprocal_()
        else:
            largest, found = _mean_softmax(placed, start, stop, size[1]).max(0)
            # Sums of roundings may end beyond 1.
            confidence[start:stop] = largest.clamp_(max=1)
        classes[start:stop] = found
    return Seen(classes, confidence)


@dataclass(frozen=True)
class _Axis:
    """Where the pixels `first` to `stop` of the result lie among a patch's rows or columns."""

    first: int
    stop: int
    below: Tensor  # the cell before each pixel's centre
    above: Tensor  # the one behind it
    weight: Tensor  # of `above`, 0..1
    is_even: bool  # the part is cut at pixels of the result


class _Placed(NamedTuple):
    scores: Tensor
    rows: _Axis
    columns: _Axis


def _placed(view: View, size: tuple[int, int]) -> list[_Placed]:
    def placed(patch: Patch) -> _Placed:
        # Exact for what a network computes in fewer bits, and what autocast has left of it.
        scores = patch.scores.to(torch.promote_types(patch.scores.dtype, torch.float32))
        spans = (patch.top, patch.rows), (patch.left, patch.columns)
        rows, columns = (
            _axis(*span, scores.shape[1 + i], (view.size[i], size[i]), scores)
            for i, span in enumerate(spans)
        )
        return _Placed(scores, rows, columns)

    return [placed(patch) for patch in view.patches]


def _axis(start: int, extent: int, cells: int, lengths: tuple[int, int], like: Tensor) -> _Axis:
    """Place `extent` pixels from `start` of a view, seen in `cells`; the view's length, and ours.

    A pixel of the result belongs to the part in which its centre lies.
    """
    length, size = lengths
    first, stop = (
        -((length - 2 * size * end) // (2 * length)) for end in (start, start + extent)
    )  # in whole numbers: no centre on an edge is lost to rounding
    centres = torch.arange(first, stop, dtype=torch.float64) + 0.5
    cell = ((centres * length / size - start) * cells / extent - 0.5).clamp_(0, cells - 1)
    below = cell.floor()
    return _Axis(
        first,
        stop,
        below.long().to(like.device),
        (below.long() + 1).clamp_(max=cells - 1).to(like.device),
        (cell - below).to(like),
        (start * size) % length == 0 and (extent * size) % length == 0,
    )


def _bands(scores: Tensor, size: tuple[int, int]) -> list[tuple[int, int]]:
    at_most = _BYTES_ON_GPU if scores.is_cuda else _BYTES_ON_CPU
    rows = max(1, at_most // (4 * scores.shape[0] * size[1]))
    return [(start, min(start + rows, size[0])) for start in range(0, size[0], rows)]


def _scores(placed: Sequence[_Placed], start: int, stop: int, columns: int) -> Tensor:
    """(k, r, columns): one view's scores in rows `start` to `stop` of the result."""
    if len(placed) == 1:
        return _resized(placed[0], start, stop)
    scores = placed[0].scores
    total = scores.new_zeros(len(scores), stop - start, columns)
    times = scores.new_zeros(stop - start, columns)
    for one in placed:
        first, last = max(start, one.rows.first), min(stop, one.rows.stop)
        if first < last:
            part = slice(first - start, last - start), slice(one.columns.first, one.columns.stop)
            total[:, *part] += _resized(one, first, last)
            times[part] += 1
    return total.div_(times)


def _resized(one: _Placed, start: int, stop: int) -> Tensor:
    """(k, r, columns of the patch) of the result's rows `start` to `stop`."""
    rows, columns = one.rows, one.columns
    chosen = slice(start - rows.first, stop - rows.first)
    weight = rows.weight[chosen, None]
    tall = torch.lerp(one.scores[:, rows.below[chosen]], one.scores[:, rows.above[chosen]], weight)
    if columns.is_even:  # twice as fast as picking cells by their number
        width = columns.stop - columns.first
        return F.interpolate(tall, size=width, mode="linear", align_corners=False)
    return torch.lerp(tall[..., columns.below], tall[..., columns.above], columns.weight)


def _largest(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(k, r, w) -> largest score, its class, and the sum of exponentials beside it; (r, w) each.

    Overwrites the scores with those exponentials.
    """
    largest, found = scores.max(0)
    return largest, found, scores.sub_(largest).exp_().sum(0)


def _mean_softmax(
    placed: Sequence[Sequence[_Placed]], start: int, stop: int, columns: int
) -> Tensor:
    mean: Tensor | None = None
    for view in placed:
        scores = _scores(view, start, stop, columns)
        share = scores.div_(_largest(scores)[2].mul_(len(placed)))
        mean = share if mean is None else mean.add_(share)
    assert mean is not None
    return mean
