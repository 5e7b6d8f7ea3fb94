"""The images of a batch, from windows of frames: scaled, flipped and colored on the device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.data.augment import CropPlan
from segformer.data.color_jitter import apply_color_matrix


def render(windows: Sequence[Tensor], plans: Sequence[CropPlan], color_matrices: Tensor) -> Tensor:
    """Make the images that the cuts describe; nothing waits for the device.

    Args:
        windows: b of (from_h, from_w, 3) uint8 RGB: what `rows` and `columns` of each cut take.
        plans: b of them, of one crop.
        color_matrices: (b, 3, 7) float32, `normalizing` the cuts' colors, on the windows' device.

    Returns:
        (b, 3, *crop) float32, normalized; 0, the mean color, where a frame does not reach.
    """
    crop = plans[0].labels.shape
    pixels = torch.empty(len(plans), 3, *crop, device=color_matrices.device)
    # One after the other: what is made on the way to a picture stays small, and in the cache.
    for picture, window, cut, numbers in zip(pixels, windows, plans, color_matrices, strict=True):
        if cut.size != crop:
            picture.zero_()
        apply_color_matrix(_resize_window(window, cut), numbers, out=_frame_region(picture, cut))
    return pixels


def _resize_window(window: Tensor, plan: CropPlan) -> Tensor:
    """(from_h, from_w, 3) uint8 -> (3, *size) float32, 0..255, flipped if the cut is."""
    source = window.permute(2, 0, 1)[None].float()
    is_smaller = plan.size[0] < window.shape[0] or plan.size[1] < window.shape[1]
    # Where nothing shrinks antialiasing is the ordinary bilinear, at several times its cost.
    scaled = F.interpolate(source, size=plan.size, mode="bilinear", antialias=is_smaller)[0]
    return scaled.flip(-1) if plan.is_flipped else scaled


def _frame_region(picture: Tensor, plan: CropPlan) -> Tensor:
    """The part of a crop (3, *crop) that the frame fills, a view."""
    rows, columns = plan.size
    return picture[:, :rows, -columns:] if plan.is_flipped else picture[:, :rows, :columns]
