"""Softmax reductions for losses, fused so that no other map of the size of the scores is needed."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from segformer.cityscapes import IGNORE

PIXELS_ON_CPU = 2**15
"""Pixels per band: with 19 float32 scores 2.5 MB, which stay in the CPU's cache; no fresh memory is
touched, which would take longer than the arithmetic."""

PIXELS_ELSEWHERE = 2**20
"""Pixels per band: 80 MB; on a GPU, many small kernel launches cost more than the cache saves."""


def log_probability(scores: Tensor, target: Tensor) -> Tensor:
    """Return the log probability of the true class of every pixel.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids, on the same device; pixels at IGNORE are void.

    Returns:
        (b, h, w), at least float32; exactly 0 at void, where the gradient is 0 too.

    Raises:
        ValueError: for shapes that do not match, or labels of another type or out of range.
    """
    _check_inputs(scores, target)
    logs: Tensor = _softmax_sums(scores, target, False)[0]
    return logs


def log_probability_and_class_sums(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log probability of the true class, and the predicted probability mass by class.

    Args:
        scores: (b, k, h, w) of any float type, before the softmax.
        target: (b, h, w) int64 train ids, on the same device; pixels at IGNORE are void.

    Returns:
        The result of `log_probability`, and (k,) of the same type: the probability of each class,
        summed over the labeled pixels.

    Raises:
        ValueError: for shapes that do not match, or labels of another type or out of range.
    """
    _check_inputs(scores, target)
    logs, predicted = _softmax_sums(scores, target, True)
    return logs, predicted


class _SoftmaxSums(torch.autograd.Function):
    """(b, k, h, w), (b, h, w) -> (b, h, w), (k,) or None, with the gradient in closed form.

    Autograd would keep a map of the size of the scores for the backward pass and allocate two or
    three more there. Here both passes run over the scores in bands of rows, and the backward pass
    recomputes the softmax, so that the gradient itself is the only such map. There is no second
    derivative: the gradient counts as a constant.
    """

    @staticmethod
    def forward(
        scores: Tensor, target: Tensor, with_class_sums: bool
    ) -> tuple[Tensor, Tensor | None]:
        dtype = torch.promote_types(scores.dtype, torch.float32)
        logs = torch.empty(target.shape, dtype=dtype, device=scores.device)
        predicted = torch.zeros(scores.shape[1], dtype=dtype, device=scores.device)
        for images, rows in _iter_bands(target):
            is_labeled, true_class = _labeled_mask_and_class(target[images, rows])
            band = scores[images, :, rows].to(dtype).log_softmax(dim=1)
            logs[images, rows] = band.gather(1, true_class).where(is_labeled, 0)[:, 0]
            if with_class_sums:
                predicted += band.exp_().mul_(is_labeled).sum(dim=(0, 2, 3))
        return logs, predicted if with_class_sums else None

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        scores, target, _ = inputs
        ctx.save_for_backward(scores, target)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None]:
        # With y the true class, g the gradient of log p_y and a that of the sums of p:
        # ds_c = g ([c = y] - p_c) + p_c (a_c - sum over j of a_j p_j), and 0 at void.
        scores, target = ctx.saved_tensors
        grad_logs, grad_predicted = gradients
        assert grad_logs is not None  # zeros if nothing depends on them
        gradient = torch.empty_like(scores)
        for images, rows in _iter_bands(target):
            is_labeled, true_class = _labeled_mask_and_class(target[images, rows])
            g = grad_logs[images, None, rows].where(is_labeled, 0)
            p = scores[images, :, rows].to(g.dtype).softmax(dim=1)
            if grad_predicted is None:
                band = p.mul_(-g)
            else:
                p.mul_(is_labeled)
                band = p * grad_predicted[:, None, None]
                band.addcmul_(p, band.sum(dim=1, keepdim=True).add_(g), value=-1)
            gradient[images, :, rows] = band.scatter_add_(1, true_class, g)
        return gradient, None, None


_softmax_sums: Callable[[Tensor, Tensor, bool], Any] = _SoftmaxSums.apply


def _labeled_mask_and_class(target: Tensor) -> tuple[Tensor, Tensor]:
    # (b, h, w) -> (b, 1, h, w) each: labeled pixels, and a valid class index at every pixel.
    is_labeled = (target != IGNORE)[:, None]
    return is_labeled, target[:, None].where(is_labeled, 0)


def _iter_bands(target: Tensor) -> Iterator[tuple[slice, slice]]:
    # The images and rows of each band.
    b, h, w = target.shape
    pixels = PIXELS_ON_CPU if target.is_cpu else PIXELS_ELSEWHERE
    if torch.compiler.is_compiling():
        pixels = target.numel()  # the compiler fuses the operations, and would unroll every band
    images, rows = max(1, pixels // max(1, h * w)), max(1, pixels // max(1, w))
    for first in range(0, b, images):
        for top in range(0, h, rows):
            yield slice(first, first + images), slice(top, top + rows)


def _check_inputs(scores: Tensor, target: Tensor) -> None:
    b, k, *size = scores.shape
    if target.shape != (b, *size) or target.dim() != 3:
        raise ValueError(
            f"scores {tuple(scores.shape)} do not match labels {tuple(target.shape)}: expected "
            "scores (b, k, h, w) and labels (b, h, w); resize the scores to the labels"
        )
    if target.dtype != torch.int64:
        raise ValueError(f"labels are {target.dtype}; convert the train ids to int64 with .long()")
    # Not on a GPU, where the check would wait for it: there PyTorch's own assertion fails.
    if target.is_cpu and not torch.compiler.is_compiling() and target.numel():
        is_invalid = (target < 0) | ((target >= k) & (target != IGNORE))
        if is_invalid.any():
            raise ValueError(
                f"a label contains the class {int(target[is_invalid][0])}; allowed are 0 to "
                f"{k - 1}, and {IGNORE} for void"
            )
