"""Ways of showing a picture to a model: whole or by windows, mirrored too, at several sizes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from segformer.data.packed_frames import normalize
from segformer.inference.score_resizing import Prediction, ScaledScores, WindowScores, reduce_scores
from segformer.inference.segment import eval_mode
from segformer.inference.settings import Size

_WINDOW_BATCH = 4
"""Windows predicted at a time, so that memory is bounded however large a picture is."""


def predict(
    model: nn.Module,
    pictures: Sequence[Tensor],
    *,
    output_size: Size,
    windows: tuple[Size, Size] | None = None,
    flip: bool = False,
) -> Prediction:
    """Predict one picture, shown in one or more sizes.

    As mmsegmentation does it: the scores of overlapping windows are averaged, and the softmax of
    what is seen at several sizes and in the mirror. Unlike it, scores are resized once, from the
    network's grid to the result.

    Args:
        model: normalized images to scores; put into evaluation mode and back.
        pictures: the same picture in one or more sizes, each (h, w, 3) uint8 RGB on its device.
        output_size: rows and columns of the result.
        windows: rows and columns of a window, and how far apart windows are; a picture that is
            smaller is seen whole. None: all pictures are.
        flip: whether each is also seen in the mirror.

    Raises:
        ValueError: for windows that leave a gap between them.
    """
    if windows and not all(0 < step <= side for side, step in zip(*windows, strict=True)):
        window, stride = ("x".join(map(str, one)) for one in windows)
        raise ValueError(f"windows of {window}, {stride} apart, leave gaps: choose a lower stride")
    views = []
    with eval_mode(model):
        for picture in pictures:
            image = normalize(picture[None])[0]  # (3, h, w)
            views.append(_predict_scale(model, image, windows))
            if flip:
                views.append(_flip_back(_predict_scale(model, image.flip(-1), windows)))
        return reduce_scores(views, output_size)


def window_offsets(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows that cover `length` pixels; the last one ends where they do."""
    gaps = -(-max(length - window, 0) // stride)
    return [max(min(i * stride, length - window), 0) for i in range(gaps + 1)]


def _predict_scale(
    model: nn.Module, image: Tensor, windows: tuple[Size, Size] | None
) -> ScaledScores:
    size = image.shape[1], image.shape[2]
    (rows, columns), stride = windows or (size, size)
    rows, columns = min(rows, size[0]), min(columns, size[1])
    corners = [
        (top, left)
        for top in window_offsets(size[0], rows, stride[0])
        for left in window_offsets(size[1], columns, stride[1])
    ]
    cuts = [image[:, top : top + rows, left : left + columns] for top, left in corners]
    scores: list[Tensor] = []
    for i in range(0, len(cuts), _WINDOW_BATCH):
        scores += model(torch.stack(cuts[i : i + _WINDOW_BATCH]))
    return ScaledScores(
        size,
        [
            WindowScores(one, *corner, rows, columns)
            for one, corner in zip(scores, corners, strict=True)
        ],
    )


def _flip_back(view: ScaledScores) -> ScaledScores:
    columns = view.size[1]
    patches = [
        replace(one, scores=one.scores.flip(-1), left=columns - one.left - one.columns)
        for one in view.windows
    ]
    return ScaledScores(view.size, patches)
