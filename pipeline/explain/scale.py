"""The color scale of attention maps: values to colors over a gray photograph, and back in numbers."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

UNIFORM_UNIT = "x uniform attention"
"""The unit of values that are multiples of uniform attention."""

_LIMITS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_QUANTILE = 0.995  # of all values; the few above it get the last color
_STEPS = 513  # colors of a scale; odd, so that one is neutral
_ONE = 256  # fixed point: fast on whole films

# Position on the scale, -1..1 -> red, green, blue, and opacity over the gray photograph. Over
# middle gray the lightness L* rises evenly, so a scale is ordered in gray and for color-blind
# readers too; at 0 the photograph is untouched.
_ANCHORS = np.array(
    [
        (-1.0, 14, 34, 132, 0.78),
        (-0.5, 30, 72, 190, 0.5),
        (0.0, 110, 110, 118, 0.0),
        (0.35, 232, 110, 40, 0.55),
        (0.7, 250, 166, 28, 0.86),
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
            return np.clip(values / self.limit, 0, 1).astype(np.float32)
        least = np.float32(1 / (2 * self.limit))  # attention may be 0
        logarithms = np.log(np.maximum(values, least)) / np.float32(math.log(self.limit))
        return np.clip(logarithms, -1, 1).astype(np.float32)

    def blend(self, gray: NDArray[np.uint8], values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Lay the colors of values over a gray picture.

        Args:
            gray: (h, w) uint8.
            values: (h, w); nan leaves the gray as it is.

        Returns:
            (h, w, 3) uint8 RGB.
        """
        tint, transparency = _color_table()
        half = np.float32((_STEPS - 1) / 2)
        positions = np.nan_to_num(self.positions(values), copy=False)
        steps = ((positions + 1) * half + np.float32(0.5)).astype(np.intp)
        blended = tint.take(steps, axis=0)
        blended += (gray * transparency.take(steps))[..., None]
        blended >>= np.uint16(8)
        return blended.astype(np.uint8)


def fit_scale(values: NDArray[np.floating]) -> ColorScale:
    """Return the scale of multiples of uniform attention that covers values.

    Its limit is a round number, at least 2: nearly uniform attention stays nearly colorless. The
    largest 0.5 % of the values may lie above it.

    Args:
        values: of any shape, 0 or more; of all heads, and of all frames that share the scale.
    """
    needed = float(np.quantile(values, _QUANTILE))
    return ColorScale(float(next((limit for limit in _LIMITS if limit >= needed), _LIMITS[-1])))


def _format_inverse(step: float) -> str:
    return f"1/{step:g}" if float(step).is_integer() else f"{1 / step:.2g}"


@cache
def _color_table() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """The share of the color, (steps, 3), and of the gray, (steps,), in fixed point."""
    places = np.linspace(-1, 1, _STEPS)
    red, green, blue, opacity = (
        np.interp(places, _ANCHORS[:, 0], channel) for channel in _ANCHORS[:, 1:].T
    )
    colors = np.stack([red, green, blue], axis=1)
    # At most 256 * 255 + 128: no overflow. The half rounds instead of truncating.
    tint = np.rint(_ONE * opacity[:, None] * colors + _ONE / 2).astype(np.uint16)
    return tint, (_ONE - np.rint(_ONE * opacity)).astype(np.uint16)
