"""Elements shared by the figures: canvas, colors, bars, and PNGs that are reproducible."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from segformer.cityscapes import palette

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
    """Create an empty figure without a display; its parts do not overlap.

    Args:
        width: inches.
        height: inches.
    """
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whatever the suffix of `path`; the same figure gives the same bytes."""
    figure.savefig(path, format="png", metadata={"Software": None})


def add_title(figure: Figure, title: str, subtitle: str = "") -> None:
    """Put a title at the top left and a smaller subtitle below it."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=TEXT_COLOR)
    if subtitle:
        # A text of the first axes, so that the constrained layout makes room for it.
        figure.axes[0].set_title(subtitle, loc="left", fontsize=10, color="#555555", pad=10)


def style_axes(axes: Axes, *, grid: str = "x") -> None:
    """Reduce the frame to the left and bottom spines and a pale grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LIGHT_GRAY)
    axes.tick_params(color=LIGHT_GRAY, labelcolor=TEXT_COLOR, labelsize=10)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color="#ebebeb", linewidth=0.8)  # type: ignore[arg-type]


def format_percent_axis(axes: Axes, axis_name: str = "x", digits: int = 0) -> None:
    """Write fractions of 1 as percentages along the axis `x` or `y`."""
    axis = axes.xaxis if axis_name == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.{digits}f} %"))


def class_colors(train_ids: Sequence[int]) -> NDArray[np.float64]:
    """(k, 3) RGB in 0..1: the official colors."""
    return palette()[list(train_ids)] / 255.0


def make_legend_patch(color: object, label: str) -> Patch:
    """Create a legend patch, with a thin edge so that pale colors show on white."""
    return Patch(facecolor=color, edgecolor="#666666", linewidth=0.6, label=label)  # type: ignore[arg-type]


def plot_class_bars(
    axes: Axes, names: Sequence[str], values: NDArray[np.float64], train_ids: Sequence[int]
) -> None:
    """Draw a horizontal bar per class in the class's color, the first class on top.

    Args:
        axes: where to draw.
        names: of the k classes.
        values: (k,) lengths; nan leaves the position empty.
        train_ids: of the k classes, for the colors.
    """
    positions = np.arange(len(names))
    axes.barh(
        positions,
        np.nan_to_num(values),
        height=0.72,
        color=class_colors(train_ids),
        edgecolor="#666666",
        linewidth=0.6,
    )
    axes.set_yticks(positions, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
