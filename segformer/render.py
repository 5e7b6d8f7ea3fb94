"""The images of a batch, from windows of frames: scaled, flipped and coloured on the device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.augment import Cut
from segformer.colours import recolour


def render(windows: Sequence[Tensor], cuts: Sequence[Cut], colours: Tensor) -> Tensor:
    """Make the images that the cuts describe; nothing waits for the device.

    Args:
        windows: b of (from_h, from_w, 3) uint8 RGB: what `rows` and `columns` of each cut take.
        cuts: b of them, of one crop.
        colours: (b, 3, 7) float32, `normalising` the cuts' colours, on the windows' device.

    Returns:
        (b, 3, *crop) float32, normalised; 0, the mean colour, where a frame does not reach.
    """
    crop = cuts[0].labels.shape
    pixels = torch.empty(len(cuts), 3, *crop, device=colours.device)
    # One after the other: what is made on the way to a picture stays small, and in the cache.
    for picture, window, cut, numbers in zip(pixels, windows, cuts, colours, strict=True):
        if cut.size != crop:
            picture.zero_()
        recolour(_scaled(window, cut), numbers, out=_placed(picture, cut))
    return pixels


def _scaled(window: Tensor, cut: Cut) -> Tensor:
    """(from_h, from_w, 3) uint8 -> (3, *size) float32, 0..255, flipped if the cut is."""
    source = window.permute(2, 0, 1)[None].float()
    is_smaller = cut.size[0] < window.shape[0] or cut.size[1] < window.shape[1]
    # Where nothing shrinks antialiasing is the ordinary bilinear, at several times its cost.
    scaled = F.interpolate(source, size=cut.size, mode="bilinear", antialias=is_smaller)[0]
    return scaled.flip(-1) if cut.is_flipped else scaled


def _placed(picture: Tensor, cut: Cut) -> Tensor:
    """The part of a crop (3, *crop) that the frame fills, a view."""
    rows, columns = cut.size
    return picture[:, :rows, -columns:] if cut.is_flipped else picture[:, :rows, :columns]
