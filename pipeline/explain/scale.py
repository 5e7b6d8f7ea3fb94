"""The color scale of attention maps: from values to colors over a gray photograph."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

UNIFORM_UNIT = "x uniform attention"
"""The unit of values that are multiples of uniform attention."""

_LIMITS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_QUANTILE = 0.995  # of all values; the few above it get the last color
_STEPS = 255  # colors of a scale, for which 8 bits suffice; odd, so that one is neutral

DARKEST, BRIGHTEST = 52, 178
"""The grays of black and white below a map: with little contrast, so that colors compare."""

MIDDLE_GRAY = (DARKEST + BRIGHTEST) // 2
"""The gray of middle gray below a map, and below the scale bar."""

# Position on the path, -1..1 -> red, green, blue, and opacity over the gray photograph. At 0 the
# photograph is untouched.
_PATH = np.array(
    [
        (-1.0, 18, 44, 150, 0.68),
        (-0.5, 36, 80, 190, 0.44),
        (-0.001, 90, 100, 150, 0.0),
        (0.001, 210, 110, 60, 0.0),
        (0.35, 242, 124, 48, 0.58),
        (0.7, 253, 178, 40, 0.86),
        (1.0, 255, 240, 130, 0.96),
    ]
)


@dataclass(frozen=True)
class ColorScale:
    """Colors of values: none at the neutral value, warm above it, blue below it.

    Attributes:
        limit: the value of the last color; larger values have it too.
        unit: of the values, in words, behind the numbers of the scale bar.
        is_ratio: values are multiples of a neutral 1, on a logarithmic scale from 1 / limit to
            limit. Otherwise they are 0 or more, 0 is neutral, and the scale is linear.

    Raises:
        ValueError: if the limit is not above the neutral value.
    """

    limit: float
    unit: str = UNIFORM_UNIT
    is_ratio: bool = True

    def __post_init__(self) -> None:
        smallest = 1 if self.is_ratio else 0
        if not smallest < self.limit < math.inf:
            raise ValueError(
                f"the color scale ends at {self.limit:g}; choose a number above {smallest}"
            )

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Values to be written at the scale bar, in order, each with its text."""
        if not self.is_ratio:
            return tuple((part * self.limit, f"{part * self.limit:.3g}") for part in (0, 0.5, 1))
        root = math.isqrt(round(self.limit))
        steps = [root, self.limit] if root > 1 and root**2 == self.limit else [self.limit]
        below = [(1 / step, _format_inverse(step)) for step in reversed(steps)]
        return (*below, (1.0, "1"), *((step, f"{step:g}") for step in steps))

    def positions(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Values -> their places on the scale, -1..1 of the same shape; 0 is neutral."""
        if not self.is_ratio:
            return np.asarray(np.clip(values / self.limit, 0, 1), dtype=np.float32)
        least = np.float32(1 / (2 * self.limit))  # attention may be 0
        logarithms = np.log(np.maximum(values, least)) / np.float32(math.log(self.limit))
        return np.asarray(np.clip(logarithms, -1, 1), dtype=np.float32)


def blend_colors(gray: NDArray[np.uint8], positions: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay the colors of a scale over a gray picture.

    Args:
        gray: (h, w) uint8.
        positions: (h, w) float32, places on the scale, -1..1; nan leaves the gray as it is.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    palette, opacity = _color_table()
    half = np.float32((_STEPS - 1) / 2)
    steps = ((np.nan_to_num(positions) + 1) * half + np.float32(0.5)).astype(np.uint8)
    # Pillow is several times as fast as NumPy here, which counts in films.
    colors = Image.fromarray(steps)
    colors.putpalette(palette)
    mask = Image.fromarray(opacity.take(steps))
    below = Image.fromarray(gray).convert("RGB")
    return np.asarray(Image.composite(colors.convert("RGB"), below, mask))


def fit_scale(values: NDArray[np.floating]) -> ColorScale:
    """Return the scale of multiples of uniform attention that covers values.

    Its limit is a round number, at least 2: nearly uniform attention stays nearly colorless. The
    largest 0.5 % of the values may lie above it.

    Args:
        values: of any shape, 0 or more; of all heads, and of all frames that share the scale.
    """
    needed = float(np.quantile(values, _QUANTILE))
    return ColorScale(float(next((limit for limit in _LIMITS if limit >= needed), _LIMITS[-1])))


def fit_linear_scale(values: NDArray[np.floating], unit: str) -> ColorScale:
    """Return a linear scale from 0 that covers all values but the largest 0.5 %.

    Args:
        values: of any shape, 0 or more.
        unit: of the values, in words.
    """
    needed = float(np.quantile(values, _QUANTILE)) or float(values.max())
    return ColorScale(float(f"{needed:.2g}") or 1.0, unit, is_ratio=False)


def _format_inverse(step: float) -> str:
    return f"1/{step:g}" if float(step).is_integer() else f"{1 / step:.2g}"


@cache
def _color_table() -> tuple[bytes, NDArray[np.uint8]]:
    """The colors as a palette of Pillow, and their opacity, 0..255.

    The path is walked so that over middle gray the lightness falls evenly below neutral and rises
    evenly above it. So a scale is in order for color-blind readers and in gray too.
    """
    fine = _sample_path(np.linspace(-1, 1, 2001))
    lightness = _lightness(fine[:, :3] * fine[:, 3:] + MIDDLE_GRAY * (1 - fine[:, 3:]))
    ends = lightness[[0, 1000, 2000]]
    targets = np.interp(np.linspace(-1, 1, _STEPS), [-1, 0, 1], ends)
    places = np.interp(targets, np.maximum.accumulate(lightness), np.linspace(-1, 1, 2001))
    places[_STEPS // 2] = 0
    table = _sample_path(places)
    colors = np.rint(table[:, :3]).astype(np.uint8)
    return colors.tobytes(), np.rint(255 * table[:, 3]).astype(np.uint8)


def _sample_path(places: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n,) -> (n, 4): red, green, blue, opacity."""
    return np.stack([np.interp(places, _PATH[:, 0], channel) for channel in _PATH[:, 1:].T], axis=1)


def _lightness(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, 3) sRGB, 0..255 -> (n,) L* of CIELAB, 0..100, for colors that are not nearly black."""
    linear = ((rgb / 255 + 0.055) / 1.055) ** 2.4
    return np.asarray(116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16)
