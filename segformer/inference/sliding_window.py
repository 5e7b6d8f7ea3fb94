"""Sliding window and multi-scale inference, with horizontal flipping."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from segformer.data.packed_frames import normalize
from segformer.inference.score_resizing import Prediction, ScaledScores, WindowScores, reduce_scores
from segformer.inference.segment import eval_mode
from segformer.inference.settings import Size

_WINDOW_BATCH = 4
"""Windows per batch: bounds the memory for images of any size."""


def predict(
    model: nn.Module,
    images: Sequence[Tensor],
    *,
    output_size: Size,
    windows: tuple[Size, Size] | None = None,
    flip: bool = False,
) -> Prediction:
    """Predict one image, given at one or more scales.

    As in mmsegmentation, the scores of overlapping windows are averaged, and so is the softmax over
    scales and flips. Unlike there, scores are resized once, from the network's grid to the result.

    Args:
        model: from normalized images to scores; in evaluation mode during the call.
        images: the same image at one or more scales, each (h, w, 3) uint8 RGB on its device.
        output_size: rows and columns of the result.
        windows: rows and columns of a window, and the stride; an image within one window is
            predicted whole. None: every image is predicted whole.
        flip: whether each image is also predicted horizontally flipped.

    Returns:
        The classes and their confidence, (*output_size) each.

    Raises:
        ValueError: for a stride larger than the window, or not positive.
    """
    if windows and not all(0 < step <= side for side, step in zip(*windows, strict=True)):
        window, stride = ("x".join(map(str, size)) for size in windows)
        raise ValueError(
            f"windows of {window} with stride {stride} leave gaps: choose a stride of at most the"
            " window"
        )
    scales = []
    with eval_mode(model):
        for image in images:
            pixels = normalize(image[None])[0]  # (3, h, w)
            scales.append(_predict_scale(model, pixels, windows))
            if flip:
                scales.append(_flip_back(_predict_scale(model, pixels.flip(-1), windows)))
        return reduce_scores(scales, output_size)


def window_offsets(length: int, window: int, stride: int) -> list[int]:
    """Return the first pixels of windows that cover `length` pixels; the last one ends there."""
    gaps = -(-max(length - window, 0) // stride)
    return [max(min(i * stride, length - window), 0) for i in range(gaps + 1)]


def _predict_scale(
    model: nn.Module, pixels: Tensor, windows: tuple[Size, Size] | None
) -> ScaledScores:
    size = pixels.shape[1], pixels.shape[2]
    (rows, columns), stride = windows or (size, size)
    rows, columns = min(rows, size[0]), min(columns, size[1])
    corners = [
        (top, left)
        for top in window_offsets(size[0], rows, stride[0])
        for left in window_offsets(size[1], columns, stride[1])
    ]
    crops = [pixels[:, top : top + rows, left : left + columns] for top, left in corners]
    scores: list[Tensor] = []
    for i in range(0, len(crops), _WINDOW_BATCH):
        scores += model(torch.stack(crops[i : i + _WINDOW_BATCH]))
    return ScaledScores(
        size,
        [
            WindowScores(window_scores, *corner, rows, columns)
            for window_scores, corner in zip(scores, corners, strict=True)
        ],
    )


def _flip_back(scale: ScaledScores) -> ScaledScores:
    columns = scale.size[1]
    windows = [
        replace(window, scores=window.scores.flip(-1), left=columns - window.left - window.columns)
        for window in scale.windows
    ]
    return ScaledScores(scale.size, windows)
