"""What the figures share: canvas, colours, bars, and PNGs that are the same for the same figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segformer.cityscapes import palette

# matplotlib takes half a second, and every command loads this module for the parameters of the
# stages that draw: it is imported where something is drawn. Here are only the names of its types.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
else:
    Axes = Figure = Patch = Any

__all__ = [
    "Axes",
    "Figure",
    "add_title",
    "class_colors",
    "create_figure",
    "format_percent_axis",
    "make_legend_patch",
    "plot_class_bars",
    "save_figure",
    "style_axes",
]

TEXT_COLOR = "#222222"
LIGHT_GRAY = "#d9d9d9"
_DPI = 110


def create_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, drawn without a display; its parts do not overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whatever the name ends in; the same figure gives the same bytes."""
    figure.savefig(path, format="png", metadata={"Software": None})


def add_title(figure: Figure, title: str, subtitle: str = "") -> None:
    """Put a title at the top left and, smaller and below it, what it is measured on."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=TEXT_COLOR)
    if subtitle:
        # A text of the first axes, so that the constrained layout makes room for it.
        figure.axes[0].set_title(subtitle, loc="left", fontsize=10, color="#555555", pad=10)


def style_axes(axes: Axes, *, grid: str = "x") -> None:
    """Leave of the frame only what carries values: two spines and a pale grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LIGHT_GRAY)
    axes.tick_params(color=LIGHT_GRAY, labelcolor=TEXT_COLOR, labelsize=10)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color="#ebebeb", linewidth=0.8)  # type: ignore[arg-type]


def format_percent_axis(axes: Axes, axis_name: str = "x", digits: int = 0) -> None:
    """Write fractions of 1 as percentages along the axis `x` or `y`."""
    from matplotlib.ticker import FuncFormatter

    axis = axes.xaxis if axis_name == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.{digits}f} %"))


def class_colors(train_ids: Sequence[int]) -> NDArray[np.float64]:
    """(k, 3) RGB in 0..1: the official colours."""
    return palette()[list(train_ids)] / 255.0


def make_legend_patch(color: object, label: str) -> Patch:
    """A legend's swatch, with a thin edge so that pale colours show on white."""
    from matplotlib.patches import Patch

    return Patch(facecolor=color, edgecolor="#666666", linewidth=0.6, label=label)  # type: ignore[arg-type]


def plot_class_bars(
    axes: Axes, names: Sequence[str], values: NDArray[np.float64], train_ids: Sequence[int]
) -> None:
    """Draw a horizontal bar per class in its own colour, the first class on top.

    Args:
        axes: where to draw.
        names: of the classes, k of them.
        values: (k,) lengths; nan leaves the place empty.
        train_ids: of the classes, for the colours.
    """
    places = np.arange(len(names))
    axes.barh(
        places,
        np.nan_to_num(values),
        height=0.72,
        color=class_colors(train_ids),
        edgecolor="#666666",
        linewidth=0.6,
    )
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
