"""Places in an image: a pixel or a region, and the share of it in each token of a grid."""

import torch
from torch import Tensor
from torch.nn import functional as F

Place = tuple[int, int] | Tensor
"""Row and column of a pixel, or an (H, W) bool mask, a region."""


def place_mask(place: Place, image_size: tuple[int, int]) -> Tensor:
    """Return the (H, W) bool mask of a place in an image of that size.

    Raises:
        ValueError: for a pixel outside the image, or a region of another size or without a pixel.
    """
    height, width = image_size
    if isinstance(place, Tensor):
        if place.shape != image_size or not place.any():
            raise ValueError(
                f"the region is {tuple(place.shape)} with {int(place.count_nonzero())} pixels; "
                f"give a ({height}, {width}) mask with at least one"
            )
        return place.bool()
    row, column = place
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(
            f"pixel {row}, {column} is not in the image; it has {height} rows, {width} columns"
        )
    mask = torch.zeros(image_size, dtype=torch.bool)
    mask[row, column] = True
    return mask


def token_shares(mask: Tensor, *, stride: int, size: tuple[int, int]) -> Tensor:
    """Return the share of a region in each token, (rows * columns,) float32, with a sum of 1.

    A token covers `stride` rows and columns of pixels, as in the resizing of the decoder. Pixels
    right of the last token or below it are left out.

    Args:
        mask: (H, W) bool, the region.
        stride: pixels per token along both axes.
        size: rows and columns of the grid of tokens.

    Raises:
        ValueError: if no token covers a pixel of the region. Sequence reduction drops the last
            rows and columns of tokens where they do not fill a key.
    """
    (rows, columns), (height, width) = size, mask.shape
    # Negative padding crops.
    covered = F.pad(mask.float(), (0, columns * stride - width, 0, rows * stride - height))
    shares = F.avg_pool2d(covered[None], stride)[0].flatten()
    if not shares.any():
        raise ValueError(
            f"the place is in no key of this stage; the keys cover rows 0 to {rows * stride - 1} "
            f"and columns 0 to {columns * stride - 1} of the image; choose a place there"
        )
    return shares / shares.sum()
