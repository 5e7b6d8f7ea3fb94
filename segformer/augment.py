"""Random scale, crop, flip and colour of a batch, on whatever device it is."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.cityscapes import IGNORE
from segformer.frames import nearest, normalise

TRIES = 10
"""Places tried for a crop until no class has too much of it; the last one is taken as it is."""

# Strengths of the photometric distortion: the paper's recipe has them from SSD, arXiv:1512.02325.
BRIGHTNESS = 32.0  # added or taken away; of 255
CONTRAST = (0.5, 1.5)  # multiplies
SATURATION = (0.5, 1.5)  # multiplies
HUE = 36.0  # degrees, either way


@dataclass(frozen=True)
class Augment:
    """The paper's augmentation: call it with a batch of packed frames.

    Each frame is scaled by a random factor and cut to `crop`; image and label are cut from the same
    whole pixels, so that they stay together. What the scaled frame does not fill, below and beside
    it, is mean colour and IGNORE. A crop is placed anew, up to TRIES times in all, if one class has
    more than `max_class_share` of its labelled pixels, or if none is labelled.

    Args:
        crop: rows and columns of the result, pixels.
        scale: least and greatest factor, drawn evenly between.
        max_class_share: largest share of the labelled pixels that one class may have, up to 1.
        flip: whether left and right are swapped in half of the frames.
        photometric: whether brightness, contrast, saturation and hue each change in half of them.

    Raises:
        ValueError: for a size, factor or share that cannot be.
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    max_class_share: float = 0.75
    flip: bool = True
    photometric: bool = True

    def __post_init__(self) -> None:
        if min(self.crop) < 1:
            raise ValueError(f"crop is {self.crop}; rows and columns must be at least 1 pixel")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}; it must be above 0, the lesser factor first")
        if not 0 < self.max_class_share <= 1:
            raise ValueError(
                f"max_class_share is {self.max_class_share}; it must be above 0 and at most 1"
            )

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch; all that is random is drawn from `generator`.

        Args:
            images: (b, h, w, 3) uint8 RGB.
            labels: (b, h, w) uint8 train ids, on the same device.
            generator: on any device; a CPU one gives the same crops on every device.

        Returns:
            (b, 3, *crop) float32, normalised, and (b, *crop) int64 train ids.
        """
        draws = _uniform((len(images), 1 + 2 * TRIES), generator).tolist()
        cuts = [self._cut(*frame) for frame in zip(images, labels, draws, strict=True)]
        pixels, target, is_frame = (torch.stack(parts) for parts in zip(*cuts, strict=True))
        if self.photometric:
            pixels = distort(pixels, generator)
        pixels = normalise(pixels.permute(0, 2, 3, 1))
        pixels = pixels * is_frame[:, None]  # normalised, the mean colour is 0
        if self.flip:
            is_flipped = _uniform((len(images), 1, 1), generator).to(labels.device) < 0.5
            pixels = pixels.flip(-1).where(is_flipped[..., None], pixels)
            target = target.flip(-1).where(is_flipped, target)
        return pixels, target.long()

    def _cut(
        self, image: Tensor, label: Tensor, draws: list[float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give the crop's image (3, *crop) 0..255, its labels, and where the frame fills it."""
        h, w = label.shape
        factor = self.scale[0] + draws[0] * (self.scale[1] - self.scale[0])
        (from_h, to_h), (from_w, to_w) = (
            _span(side, crop, factor) for side, crop in zip((h, w), self.crop, strict=True)
        )
        rows, columns = (
            nearest(*span).to(label.device) for span in ((from_h, to_h), (from_w, to_w))
        )
        for row_draw, column_draw in zip(draws[1::2], draws[2::2], strict=True):
            top, left = int(row_draw * (h - from_h + 1)), int(column_draw * (w - from_w + 1))
            cut = label[top + rows][:, left + columns]
            if self._is_varied(cut):
                break
        window = image[top : top + from_h, left : left + from_w].permute(2, 0, 1)[None].float()
        # Antialiasing acts where it shrinks; where it grows this is the ordinary bilinear.
        scaled = F.interpolate(window, size=(to_h, to_w), mode="bilinear", antialias=True)[0]
        padding = (0, self.crop[1] - to_w, 0, self.crop[0] - to_h)
        is_frame = F.pad(torch.ones_like(cut, dtype=torch.bool), padding)
        return F.pad(scaled, padding), F.pad(cut, padding, value=IGNORE), is_frame

    def _is_varied(self, labels: Tensor) -> bool:
        counts = labels.flatten().bincount(minlength=IGNORE + 1)[:IGNORE]
        return 0 < int(counts.max()) <= self.max_class_share * int(counts.sum())


def distort(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, each of every image with probability 1/2.

    Brightness adds and contrast multiplies, as in SSD. Saturation moves every channel away from the
    largest, or towards it, as in HSV. Hue turns the colour about the grey axis, which keeps greys.

    Args:
        pixels: (b, 3, h, w) float RGB, 0..255.
        generator: on any device.

    Returns:
        The same, changed, within 0..255.
    """
    b = len(pixels)
    is_changed = _uniform((4, b, 1, 1, 1), generator).to(pixels.device) < 0.5
    draws = _uniform((4, b, 1, 1, 1), generator).to(pixels.device)
    # The middle of every range, at 1/2, changes nothing.
    brightness, contrast, saturation, hue = draws.where(is_changed, 0.5)  # (b, 1, 1, 1) each
    pixels = pixels + BRIGHTNESS * (2 * brightness - 1)
    pixels = pixels * _between(CONTRAST, contrast)
    value = pixels.amax(dim=1, keepdim=True)
    pixels = value - (value - pixels) * _between(SATURATION, saturation)
    turn = hue_rotation(math.radians(HUE) * (2 * hue.flatten() - 1))  # (b, 3, 3)
    return torch.einsum("bij,bjhw->bihw", turn, pixels).clamp(0, 255)


def hue_rotation(angles: Tensor) -> Tensor:
    """(b,) radians -> (b, 3, 3) rotations of RGB about the grey axis, red towards green."""
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    same = torch.eye(3, device=angles.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angles.device)
    return cos * same + (1 - cos) / 3 + sin * cross / math.sqrt(3)


def _span(side: int, crop: int, factor: float) -> tuple[int, int]:
    """How many pixels of a side are taken, and how many they become."""
    taken = max(1, round(crop / factor))
    if taken <= side:
        return taken, crop
    return side, min(crop, max(1, round(side * factor)))


def _between(ends: tuple[float, float], draws: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * draws


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)
