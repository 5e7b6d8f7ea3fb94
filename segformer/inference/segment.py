"""Whole-image inference: from images to a class per pixel."""

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
    """(b, k, h, w) -> (b, k, *size), bilinear; `size` is rows and columns in pixels."""
    if scores.shape[-2:] == size:
        return scores
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def segment(
    model: nn.Module, images: Tensor, *, input_size: tuple[int, int], output_size: tuple[int, int]
) -> Tensor:
    """Predict a class for every pixel of whole images.

    Args:
        model: from normalized images to scores; in evaluation mode during the call.
        images: (b, h, w, 3) uint8 RGB, on the model's device.
        input_size: rows and columns of the network input; images are resized with antialiasing.
        output_size: rows and columns of the prediction; the scores are resized to it.

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
    """Return the confusion matrix of all packed frames, predicted at their own size.

    In data-parallel training the processes take the batches in turn. The batches are the same for
    any number of processes, and so are the predictions.

    Args:
        model: from normalized images to scores; in evaluation mode during the call.
        frames: n frames.
        batch_size: number of frames per batch.
        device: of the model.

    Returns:
        (k, k) int64 on the CPU, in every process.
    """
    confusion = torch.zeros((), dtype=torch.int64, device=device)
    with eval_mode(model):
        for start in range(0, len(frames), batch_size)[rank() :: world_size()]:
            images, labels = frames.batch(range(start, min(start + batch_size, len(frames))))
            scores = model(normalize(images.to(device)))
            predicted = _argmax_batch(scores, labels.shape[-2:])
            counts = confusion_matrix(predicted, labels.to(device), scores.shape[1])
            confusion = confusion + counts
    return _sum_over_processes(confusion.cpu())


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; restores the previous mode at the end."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _sum_over_processes(confusion: Tensor) -> Tensor:
    # A process without any batch does not know the number of classes: its confusion is a scalar 0.
    k = max(int(size) for size in all_gather(torch.tensor(max(confusion.shape, default=1))))
    return all_reduce_shared(confusion.expand(k, k))


def _argmax_batch(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    return torch.stack([resize_and_argmax(image_scores, size) for image_scores in scores])
