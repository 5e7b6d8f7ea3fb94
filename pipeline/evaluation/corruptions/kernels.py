"""What a blurred point of light looks like, and pictures convolved with it."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

REFERENCE_ROWS = 1024
"""Lengths of corruptions are pixels of a frame with so many rows, that of Cityscapes."""


def scale_length(length: float, rows: int) -> float:
    """A length at REFERENCE_ROWS as pixels of a frame of `rows`."""
    return length * rows / REFERENCE_ROWS


def convolve(image: Floats, kernel: Floats) -> Floats:
    """(h, w, c) or (h, w) and an odd-sided kernel -> the same shape; borders are mirrored."""
    import scipy.fft  # every command loads the stages, but few convolve

    reach = [side // 2 for side in kernel.shape]
    layers = image if image.ndim == 3 else image[..., None]
    padded = np.pad(layers, [(reach[0],) * 2, (reach[1],) * 2, (0, 0)], mode="symmetric")
    size = [scipy.fft.next_fast_len(side, real=True) for side in padded.shape[:2]]
    # Rolled, so that the kernel's middle lies on the first pixel.
    placed = np.zeros(size, dtype=np.float32)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    factors = scipy.fft.rfft2(np.roll(placed, (-reach[0], -reach[1]), axis=(0, 1)))
    result = np.empty_like(layers)
    for i in range(layers.shape[2]):  # a channel at a time: the spectra are large
        spectrum = scipy.fft.rfft2(padded[..., i], s=size) * factors
        whole = scipy.fft.irfft2(spectrum, s=size)
        result[..., i] = whole[reach[0] :, reach[1] :][: layers.shape[0], : layers.shape[1]]
    return result.reshape(image.shape)


def gaussian_kernel(sigma: float) -> Floats:
    """A bell of standard deviation `sigma`, pixels; cut off at three of them."""
    edges = np.append(_offsets(3 * sigma) - 0.5, np.ceil(3 * sigma) + 0.5)
    # What falls on each pixel, not the bell at its middle: that is nothing where it is narrow.
    bell = np.diff([math.erf(edge / (math.sqrt(2) * sigma)) for edge in edges.tolist()])
    return _normalize(np.outer(bell, bell))


def disk_kernel(radius: float) -> Floats:
    """What a lens out of focus makes of a point: a disk of `radius` pixels with a soft edge."""
    across = _offsets(radius + 0.75)
    distance = np.hypot(across[:, None], across)
    return _normalize(np.clip(radius + 0.75 - distance, 0, 1))


def line_kernel(length: float, angle: float) -> Floats:
    """What a moving camera makes of a point: a line of `length` pixels.

    Args:
        length: pixels.
        angle: radians; 0 is along the rows, and it turns clockwise as rows count downwards.
    """
    across = _offsets(length / 2 + 1)
    steps = np.linspace(-0.5, 0.5, 4 * int(np.ceil(length)) + 1) * length
    rows, columns = np.outer(steps, (np.sin(angle), np.cos(angle))).T
    # Each point of the line gives to the pixels around it by how near they are.
    by_row = np.clip(1 - np.abs(across - rows[:, None]), 0, None)
    by_column = np.clip(1 - np.abs(across - columns[:, None]), 0, None)
    return _normalize(by_row.T @ by_column)


def _offsets(reach: float) -> NDArray[np.float64]:
    whole = int(np.ceil(reach))
    return np.arange(-whole, whole + 1, dtype=np.float64)


def _normalize(kernel: NDArray[np.float64]) -> Floats:
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)
