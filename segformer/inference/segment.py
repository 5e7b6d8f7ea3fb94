"""From images to classes per pixel, at the size of the label."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segformer.data.packed_frames import PackedFrames, normalize
from segformer.distributed import all_gather, all_reduce_shared, rank, world_size
from segformer.inference.score_resizing import resize_and_argmax
from segformer.metrics.confusion import confusion_matrix


def resize_scores(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """(b, k, h, w) -> (b, k, *size), bilinear; rows and columns of `size` in pixels."""
    if scores.shape[-2:] == size:
        return scores
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def segment(
    model: nn.Module, images: Tensor, *, input_size: tuple[int, int], output_size: tuple[int, int]
) -> Tensor:
    """Predict a class for every pixel.

    Args:
        model: normalized images to scores; put into evaluation mode and back.
        images: (b, h, w, 3) uint8 RGB, on the model's device.
        input_size: rows and columns the model sees; images are shrunk with antialiasing.
        output_size: rows and columns of the prediction, to which the scores are resized.

    Returns:
        (b, *output_size) uint8 train ids on the same device.
    """
    with eval_mode(model):
        pixels = normalize(images)
        if pixels.shape[-2:] != input_size:
            pixels = F.interpolate(pixels, size=input_size, mode="bilinear", antialias=True)
        return _argmax_batch(model(pixels), output_size)


def evaluate_packed(
    model: nn.Module, frames: PackedFrames, batch_size: int, device: torch.device | str
) -> Tensor:
    """Predict all packed frames at their own size and count.

    Processes that train together take the batches in turn. A batch is what it is with one process,
    so that every pixel's class is too.

    Args:
        model: normalized images to scores; put into evaluation mode and back.
        frames: n frames.
        batch_size: frames predicted at a time.
        device: the model's.

    Returns:
        (k, k) int64 confusion of all frames, on the CPU, in every process.
    """
    confusion = torch.zeros((), dtype=torch.int64, device=device)
    with eval_mode(model):
        for start in range(0, len(frames), batch_size)[rank() :: world_size()]:
            images, labels = frames.batch(range(start, min(start + batch_size, len(frames))))
            scores = model(normalize(images.to(device)))
            predicted = _argmax_batch(scores, labels.shape[-2:])
            counted = confusion_matrix(predicted, labels.to(device), scores.shape[1])
            confusion = confusion + counted
    return _sum_over_processes(confusion.cpu())


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients within; afterwards the mode is what it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _sum_over_processes(confusion: Tensor) -> Tensor:
    # One that had no batch to predict does not know the number of classes, and has a plain 0.
    k = max(int(size) for size in all_gather(torch.tensor(max(confusion.shape, default=1))))
    return all_reduce_shared(confusion.expand(k, k))


def _argmax_batch(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    return torch.stack([resize_and_argmax(one, size) for one in scores])
