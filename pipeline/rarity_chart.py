"""Class frequency against IoU: whether what is rare is also what is missed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.figures import TEXT_COLOR, Axes, create_figure, class_colors, add_title, format_percent_axis, save_figure, style_axes

# Shares of the axes' width and height.
_LABEL_HEIGHT = 0.036
_LETTER_WIDTH = 0.0088
_POINT_RADIUS = 0.009


@dataclass(frozen=True)
class _LabelBox:
    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "_LabelBox") -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.top <= other.bottom or other.top <= self.bottom)


def plot_frequency_iou(per_class: pd.DataFrame, *, name: str, protocol: str, path: Path) -> None:
    """Draw each class at its share of the labelled pixels (log scale) and its IoU.

    Args:
        per_class: columns class, train_id, iou and truth_pixels; classes without a pixel of truth
            are left out.
        name: of the model, for the title.
        protocol: what was measured on, and how.
        path: where the PNG is written.
    """
    shown = per_class[per_class["truth_pixels"] > 0]
    share = shown["truth_pixels"].to_numpy(np.float64) / shown["truth_pixels"].sum()
    iou = shown["iou"].to_numpy(np.float64)
    figure = create_figure(10, 6.5)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.scatter(
        share,
        iou,
        s=110,
        color=class_colors(shown["train_id"].tolist()),
        edgecolor="#555555",
        linewidth=0.7,
        zorder=3,
    )
    axes.set(xlim=(share.min(initial=0.1) / 1.6, 1.6), ylim=(-0.03, 1.03))
    axes.set_xlabel("share of the labelled pixels, log scale")
    axes.set_ylabel("intersection over union")
    _format_share_axis(axes)
    format_percent_axis(axes, "y")
    style_axes(axes, grid="both")
    # Of ranks by hand: pandas would load scipy's statistics for it.
    rank = shown["truth_pixels"].rank().corr(shown["iou"].rank())
    add_title(figure, f"Rare classes and their IoU, {name}", _correlation_subtitle(protocol, rank))
    _label_points(axes, shown["class"].tolist(), share, iou)
    save_figure(figure, path)


def _correlation_subtitle(protocol: str, rank: float) -> str:
    return protocol if np.isnan(rank) else f"{protocol}     rank correlation {rank:+.2f}"


def _format_share_axis(axes: Axes) -> None:
    """`10 %`, `0.01 %`: the decades as they are said."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label_points(
    axes: Axes, names: list[str], share: NDArray[np.float64], iou: NDArray[np.float64]
) -> None:
    """Write each name beside its point, as little above it as leaves all points and names free."""
    to_axes = axes.transScale + axes.transLimits
    points = to_axes.transform(np.stack([share, iou], axis=1))
    taken = [_LabelBox(x - _POINT_RADIUS, y - 1.6 * _POINT_RADIUS, x + _POINT_RADIUS, y + 1.6 * _POINT_RADIUS) for x, y in points.tolist()]
    # From below, and of neighbours the rightmost first: the thin lines then do not cross.
    for i in np.lexsort([-share, np.round(iou, 1)]).tolist():
        x, y = points[i].tolist()
        left, right = x + 1.6 * _POINT_RADIUS, x + 1.6 * _POINT_RADIUS + _LETTER_WIDTH * len(names[i])
        place = y
        while any(_LabelBox(left, place - _LABEL_HEIGHT / 2, right, place + _LABEL_HEIGHT / 2).overlaps(b) for b in taken):
            place += _LABEL_HEIGHT / 4
        taken.append(_LabelBox(left, place - _LABEL_HEIGHT / 2, right, place + _LABEL_HEIGHT / 2))
        axes.annotate(
            names[i],
            (x, y),
            xytext=(left, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=10,
            color=TEXT_COLOR,
            va="center",
            zorder=2,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6},
        )
