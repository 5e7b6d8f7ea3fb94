"""Class frequency against IoU: whether what is rare is also what is missed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.figures import INK, Axes, canvas, class_colors, headline, percent_axis, save, tidy

# Shares of the axes' width and height.
_LINE = 0.036
_LETTER = 0.0088
_DOT = 0.009


@dataclass(frozen=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "_Box") -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.top <= other.bottom or other.top <= self.bottom)


def draw_rarity(per_class: pd.DataFrame, *, name: str, protocol: str, path: Path) -> None:
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
    figure = canvas(10, 6.5)
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
    _write_shares(axes)
    percent_axis(axes, "y")
    tidy(axes, grid="both")
    # Of ranks by hand: pandas would load scipy's statistics for it.
    rank = shown["truth_pixels"].rank().corr(shown["iou"].rank())
    headline(figure, f"Rare classes and their IoU, {name}", _subtitle(protocol, rank))
    _name_points(axes, shown["class"].tolist(), share, iou)
    save(figure, path)


def _subtitle(protocol: str, rank: float) -> str:
    return protocol if np.isnan(rank) else f"{protocol}     rank correlation {rank:+.2f}"


def _write_shares(axes: Axes) -> None:
    """`10 %`, `0.01 %`: the decades as they are said."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_points(
    axes: Axes, names: list[str], share: NDArray[np.float64], iou: NDArray[np.float64]
) -> None:
    """Write each name beside its point, as little above it as leaves all points and names free."""
    to_axes = axes.transScale + axes.transLimits
    points = to_axes.transform(np.stack([share, iou], axis=1))
    taken = [_Box(x - _DOT, y - 1.6 * _DOT, x + _DOT, y + 1.6 * _DOT) for x, y in points.tolist()]
    # From below, and of neighbours the rightmost first: the thin lines then do not cross.
    for i in np.lexsort([-share, np.round(iou, 1)]).tolist():
        x, y = points[i].tolist()
        left, right = x + 1.6 * _DOT, x + 1.6 * _DOT + _LETTER * len(names[i])
        place = y
        while any(_Box(left, place - _LINE / 2, right, place + _LINE / 2).meets(b) for b in taken):
            place += _LINE / 4
        taken.append(_Box(left, place - _LINE / 2, right, place + _LINE / 2))
        axes.annotate(
            names[i],
            (x, y),
            xytext=(left, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=10,
            color=INK,
            va="center",
            zorder=2,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6},
        )
