"""The color scale of lifts: logarithmic, symmetric about 1, the same in every figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colorizer import ColorizingArtist
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from pipeline.plotting import TEXT_COLOR, Axes, Figure

_TICKS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""The scale ends at the first and the last; lifts beyond have the colors of the ends."""

_NUM_COLORS = 65  # odd, so that 1 is white
_DARK_LIFT = 4.0


def draw_lifts(axes: Axes, lifts: NDArray[np.floating]) -> AxesImage:
    """Draw (rows, columns) lifts in color; nan is transparent."""
    return axes.imshow(
        lifts,
        cmap=colormaps["RdBu_r"].resampled(_NUM_COLORS),
        norm=LogNorm(_TICKS[0], _TICKS[-1]),
        interpolation="nearest",
        aspect="auto",
    )


def add_lift_scale(figure: Figure, image: ColorizingArtist, axes: Axes | Sequence[Axes]) -> None:
    """Add the scale with numbers below the axes."""
    bar = figure.colorbar(
        image, ax=axes, location="bottom", aspect=50, pad=0.015, extend="both", shrink=0.7
    )
    bar.set_ticks(_TICKS, labels=[f"{tick:g}" for tick in _TICKS])
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0)
    bar.set_label("lift: multiple of uniform attention, log scale", fontsize=10)
    bar.outline.set_visible(False)


def text_color(lift: float) -> str:
    """The color of a number that is legible on the color of the lift."""
    return "white" if lift >= _DARK_LIFT or lift <= 1 / _DARK_LIFT else TEXT_COLOR


def format_lift(value: float) -> str:
    """Format a lift for a cell, `12`, `3.2`, `1.02`, `.45`: precise where it is near 1 or 0."""
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1.095 else f"{value:.2f}".removeprefix("0")
