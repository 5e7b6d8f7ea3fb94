"""Build blur kernels and convolve images with them."""

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Floats = NDArray[np.float32]

REFERENCE_ROWS = 1024
"""The rows of a Cityscapes frame; lengths of corruptions are in pixels of such a frame."""


def scale_length(length: float, rows: int) -> float:
    """Scale a length from a frame of REFERENCE_ROWS to a frame of `rows`."""
    return length * rows / REFERENCE_ROWS


def convolve(image: Floats, kernel: Floats) -> Floats:
    """(h, w, c) or (h, w) and an odd-sided kernel -> the same shape; borders are mirrored."""
    radii = [side // 2 for side in kernel.shape]
    channels = image if image.ndim == 3 else image[..., None]
    padded = np.pad(channels, [(radii[0],) * 2, (radii[1],) * 2, (0, 0)], mode="symmetric")
    size = [scipy.fft.next_fast_len(side, real=True) for side in padded.shape[:2]]
    # Rolled, so that the center of the kernel is at the first pixel.
    padded_kernel = np.zeros(size, dtype=np.float32)
    padded_kernel[: kernel.shape[0], : kernel.shape[1]] = kernel
    kernel_spectrum = scipy.fft.rfft2(np.roll(padded_kernel, (-radii[0], -radii[1]), axis=(0, 1)))
    result = np.empty_like(channels)
    for i in range(channels.shape[2]):  # one channel at a time: the spectra are large
        spectrum = scipy.fft.rfft2(padded[..., i], s=size) * kernel_spectrum
        convolved = scipy.fft.irfft2(spectrum, s=size)
        result[..., i] = convolved[radii[0] :, radii[1] :][: channels.shape[0], : channels.shape[1]]
    return result.reshape(image.shape)


def gaussian_kernel(sigma: float) -> Floats:
    """Build a Gaussian kernel of standard deviation `sigma` pixels, truncated at three of them."""
    edges = np.append(_offsets(3 * sigma) - 0.5, np.ceil(3 * sigma) + 0.5)
    # Integrated over each pixel: values at pixel centers vanish for a narrow Gaussian.
    profile = np.diff([math.erf(edge / (math.sqrt(2) * sigma)) for edge in edges.tolist()])
    return _normalize(np.outer(profile, profile))


def disk_kernel(radius: float) -> Floats:
    """Build the kernel of a lens out of focus: a disk of `radius` pixels with a soft edge."""
    offsets = _offsets(radius + 0.75)
    distance = np.hypot(offsets[:, None], offsets)
    return _normalize(np.clip(radius + 0.75 - distance, 0, 1))


def line_kernel(length: float, angle: float) -> Floats:
    """Build the kernel of a moving camera: a line of `length` pixels.

    Args:
        length: pixels.
        angle: radians, clockwise; 0 is along the rows.
    """
    offsets = _offsets(length / 2 + 1)
    steps = np.linspace(-0.5, 0.5, 4 * int(np.ceil(length)) + 1) * length
    rows, columns = np.outer(steps, (np.sin(angle), np.cos(angle))).T
    # Each point of the line is distributed to the pixels around it by bilinear weights.
    by_row = np.clip(1 - np.abs(offsets - rows[:, None]), 0, None)
    by_column = np.clip(1 - np.abs(offsets - columns[:, None]), 0, None)
    return _normalize(by_row.T @ by_column)


def _offsets(radius: float) -> NDArray[np.float64]:
    num_pixels = int(np.ceil(radius))
    return np.arange(-num_pixels, num_pixels + 1, dtype=np.float64)


def _normalize(kernel: NDArray[np.float64]) -> Floats:
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)
