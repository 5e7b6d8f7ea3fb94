"""Apply corruptions to photographs by name.

The families are those of Cityscapes-C (arXiv:1903.12261, arXiv:1908.05005), without the corruptions
that move objects away from their labels (zoom, elastic transform).
"""

import zlib
from collections.abc import Callable
from typing import get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pipeline.evaluation.corruptions import blur, digital, noise, weather
from pipeline.evaluation.corruptions.kernels import Floats
from pipeline.params.evaluate import CorruptionName

CORRUPTIONS: tuple[str, ...] = get_args(CorruptionName)
SEVERITIES = (1, 2, 3, 4, 5)

_FAMILIES: dict[str, dict[str, Callable[[Floats, int, Generator], Floats]]] = {
    "noise": {
        "gaussian_noise": noise.gaussian,
        "shot_noise": noise.shot,
        "impulse_noise": noise.impulse,
        "speckle_noise": noise.speckle,
    },
    "blur": {
        "defocus_blur": blur.defocus,
        "gaussian_blur": blur.gaussian,
        "motion_blur": blur.motion,
        "glass_blur": blur.glass,
    },
    "weather": {
        "snow": weather.snow,
        "frost": weather.frost,
        "fog": weather.fog,
        "spatter": weather.spatter,
        "brightness": weather.brightness,
    },
    "digital": {
        "contrast": digital.contrast,
        "saturate": digital.saturate,
        "jpeg": digital.jpeg,
        "pixelate": digital.pixelate,
    },
}
FAMILY_BY_CORRUPTION = {name: family for family, members in _FAMILIES.items() for name in members}
_FUNCTION_BY_CORRUPTION = {
    name: function for members in _FAMILIES.values() for name, function in members.items()
}


def corrupt_image(
    image: NDArray[np.uint8], name: str, severity: int, seed: int
) -> NDArray[np.uint8]:
    """Corrupt one photograph at its own size; the same arguments give the same pixels.

    Args:
        image: (h, w, 3) uint8 RGB; not changed.
        name: one of CORRUPTIONS.
        severity: 1 (mild) to 5.
        seed: the seed of the frame, see `derive_frame_seed`; all severities of a corruption draw
            the same random numbers.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        ValueError: for an unknown name or severity.
    """
    if name not in _FUNCTION_BY_CORRUPTION:
        raise ValueError(f"unknown corruption {name!r}; choose from {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"{name}: severity {severity} is not one of 1, 2, 3, 4, 5")
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    pixels = image.astype(np.float32) / np.float32(255)
    corrupted = _FUNCTION_BY_CORRUPTION[name](pixels, severity, random)
    return np.rint(np.clip(corrupted, 0, 1) * 255).astype(np.uint8)


def derive_frame_seed(key: str, seed: int) -> int:
    """Derive the seed of one frame, independent of the machine and the order of frames."""
    return zlib.crc32(f"{seed}/{key}".encode())
