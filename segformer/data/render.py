"""Render the images of a batch on the device: resize, flip and recolor windows of frames."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.data.augment import CropPlan
from segformer.data.color_jitter import apply_color_matrix


def render(windows: Sequence[Tensor], plans: Sequence[CropPlan], color_matrices: Tensor) -> Tensor:
    """Render the images of crop plans; nothing waits for the device.

    Args:
        windows: b of (from_h, from_w, 3) uint8 RGB: the `rows` and `columns` of each plan.
        plans: b plans of one crop size.
        color_matrices: (b, 3, 7) float32 of `fold_normalization`, on the device of the windows.

    Returns:
        (b, 3, *crop) float32, normalized; padding is 0, the mean color.
    """
    crop = plans[0].labels.shape
    pixels = torch.empty(len(plans), 3, *crop, device=color_matrices.device)
    # One by one: the intermediate results of an image stay small, and in the cache.
    for image, window, plan, matrix in zip(pixels, windows, plans, color_matrices, strict=True):
        if plan.size != crop:
            image.zero_()
        apply_color_matrix(_resize_window(window, plan), matrix, out=_frame_region(image, plan))
    return pixels


def _resize_window(window: Tensor, plan: CropPlan) -> Tensor:
    """(from_h, from_w, 3) uint8 -> (3, *size) float32, 0..255, flipped if planned."""
    source = window.permute(2, 0, 1)[None].float()
    is_smaller = plan.size[0] < window.shape[0] or plan.size[1] < window.shape[1]
    # If nothing shrinks, antialiasing is plain bilinear resizing at several times its cost.
    scaled = F.interpolate(source, size=plan.size, mode="bilinear", antialias=is_smaller)[0]
    return scaled.flip(-1) if plan.is_flipped else scaled


def _frame_region(image: Tensor, plan: CropPlan) -> Tensor:
    """Return a view of the part of an image (3, *crop) that the frame covers."""
    rows, columns = plan.size
    return image[:, :rows, -columns:] if plan.is_flipped else image[:, :rows, :columns]
