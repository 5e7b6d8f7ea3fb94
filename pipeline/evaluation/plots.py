"""Charts of one model's scores: how well each class is found, and what it is taken for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.scores import Scores
from pipeline.formatting import format_percent
from pipeline.plotting import (
    LIGHT_GRAY,
    TEXT_COLOR,
    Axes,
    add_title,
    class_colors,
    create_figure,
    format_percent_axis,
    make_legend_patch,
    plot_class_bars,
    save_figure,
    style_axes,
)
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from segformer.metrics.calibration import Reliability, expected_calibration_error, reliability

_MIN_CELL_SHARE = 0.01
"""Cells under this share of their row stay blank: 361 numbers are noise."""


def plot_confusion(scores: Scores, name: str, path: Path) -> None:
    """Draw the confusion, each row divided by its true pixels, with percentages in the cells.

    Args:
        scores: of one model.
        name: of the model, for the title.
        path: where the PNG is written.
    """
    total = scores.total.astype(np.float64)
    truth = total.sum(axis=1, keepdims=True)
    share = np.divide(total, truth, where=truth > 0, out=np.full_like(total, np.nan))
    figure = create_figure(12, 11)
    axes = figure.add_subplot()
    # The square root lets the small confusions be seen beside the diagonal.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(share >= _MIN_CELL_SHARE).tolist():
        value = share[row, column]
        color = "white" if value > 0.3 else TEXT_COLOR
        axes.text(
            column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=9.5, color=color
        )
    _outline_diagonal(axes)
    for row in np.flatnonzero(truth[:, 0] == 0).tolist():
        axes.text(9, row, "does not occur", ha="center", va="center", fontsize=9, color="#777777")
    axes.set_xticks(
        range(NUM_CLASSES), CLASS_NAMES, rotation=50, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(NUM_CLASSES), CLASS_NAMES)
    axes.set_xticks(np.arange(NUM_CLASSES - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(NUM_CLASSES - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.7)
    axes.tick_params(which="both", length=0, labelcolor=TEXT_COLOR, labelsize=10.5)
    axes.spines[:].set_color(LIGHT_GRAY)
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("true", fontsize=11)
    add_title(
        figure,
        f"What {name} takes for what",
        f"per cent of each class's true pixels, blank under 1     {scores.protocol}",
    )
    save_figure(figure, path)


def _outline_diagonal(axes: Axes) -> None:
    from matplotlib.patches import Rectangle

    for i in range(NUM_CLASSES):
        cell = Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="#888888", zorder=3)
        axes.add_patch(cell)


def plot_class_iou(scores: Scores, name: str, metrics: dict[str, float | None], path: Path) -> None:
    """Draw the IoU of every class in its own colour, best on top, with mIoU as a line.

    Args:
        scores: of one model.
        name: of the model, for the title.
        metrics: what `scores.metrics` returned.
        path: where the PNG is written.
    """
    table = scores.per_class().sort_values("iou", ascending=False, kind="stable")
    iou = table["iou"].to_numpy(np.float64)
    figure = create_figure(10, 7)
    axes = figure.add_subplot()
    plot_class_bars(axes, table["class"].tolist(), iou, table["train_id"].tolist())
    for place, value in enumerate(iou):
        text = "does not occur" if np.isnan(value) else f"{100 * value:.1f} %"
        axes.text(
            np.nan_to_num(value) + 0.008,
            place,
            text,
            va="center",
            fontsize=9.5,
            color=TEXT_COLOR,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
        )
    axes.set_xlim(0, 1.08)
    axes.set_xticks(np.linspace(0, 1, 6))
    format_percent_axis(axes)
    style_axes(axes)
    axes.set_xlabel("intersection over union")
    if (miou := metrics["miou"]) is not None:
        axes.axvline(miou, color=TEXT_COLOR, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0.6)
        low, high = metrics["miou_low"], metrics["miou_high"]
        if low is not None and high is not None:
            axes.axvspan(low, high, color=TEXT_COLOR, alpha=0.08, linewidth=0, zorder=0.5)
        axes.text(
            miou,
            len(iou) - 0.45,
            f" mIoU {100 * miou:.1f} % ",
            ha="left",
            va="bottom",
            fontsize=10,
            color=TEXT_COLOR,
        )
    add_title(
        figure, f"IoU per class, {name}", f"{scores.protocol}     shaded: 95 % interval of mIoU"
    )
    save_figure(figure, path)


_CORRECT_COLOR, _OVERCONFIDENT_COLOR, _UNDERCONFIDENT_COLOR = "#7fb3d5", "#e9796d", "#f3c677"
_MIN_BIN_SHARE = 0.001
"""A bin with a smaller share of the pixels is drawn pale: it hardly counts."""


def plot_reliability(counts: NDArray[np.float64], *, name: str, protocol: str, path: Path) -> None:
    """Draw accuracy against confidence, and below it where the pixels are.

    Args:
        counts: (m, 3) sums of `calibration_counts`.
        name: of the model, for the title.
        protocol: what was measured on, and how.
        path: where the PNG is written.
    """
    table = reliability(counts)
    pixels = table.pixels.numpy()
    share = pixels / max(pixels.sum(), 1)
    figure = create_figure(7.5, 8.5)
    diagram, where = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _plot_bins(diagram, table, share)
    error = float(expected_calibration_error(counts))
    diagram.set(xlim=(0, 1), ylim=(0, 1.002), ylabel="right among them")
    where.bar(table.lower, share, width=0.92 / len(pixels), align="edge", color="#9a9a9a")
    where.set(xlabel="confidence in the predicted class", ylabel="of the pixels")
    for axes in (diagram, where):
        format_percent_axis(axes, "y")
        style_axes(axes, grid="y")
    format_percent_axis(where)
    add_title(
        figure,
        f"Is {name} as often right as it is sure?",
        f"{protocol}     expected calibration error {format_percent(error)} %",
    )
    save_figure(figure, path)


def _plot_bins(axes: Axes, table: Reliability, share: NDArray[np.float64]) -> None:
    """A bar per bin: the lower of accuracy and confidence, and the gap between them on top."""
    width = 0.92 / len(share)
    for i in np.flatnonzero(share).tolist():
        left, right, sure = (float(x[i]) for x in (table.lower, table.accuracy, table.confidence))
        strength = 1.0 if share[i] >= _MIN_BIN_SHARE else 0.35
        low, gap = min(right, sure), abs(right - sure)
        color = _OVERCONFIDENT_COLOR if sure > right else _UNDERCONFIDENT_COLOR
        axes.bar(left, low, width=width, align="edge", color=_CORRECT_COLOR, alpha=strength)
        axes.bar(left, gap, width, bottom=low, align="edge", color=color, alpha=strength)
    axes.plot([0, 1], [0, 1], color=TEXT_COLOR, linewidth=1.2, linestyle=(0, (4, 3)))
    swatches = [
        make_legend_patch(_CORRECT_COLOR, "right, as it should be"),
        make_legend_patch(_OVERCONFIDENT_COLOR, "too sure: fewer are right"),
        make_legend_patch(_UNDERCONFIDENT_COLOR, "not sure enough: more are right"),
    ]
    axes.legend(handles=swatches, loc="upper left", frameon=False, fontsize=10)


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
    taken = [
        _LabelBox(
            x - _POINT_RADIUS, y - 1.6 * _POINT_RADIUS, x + _POINT_RADIUS, y + 1.6 * _POINT_RADIUS
        )
        for x, y in points.tolist()
    ]
    # From below, and of neighbours the rightmost first: the thin lines then do not cross.
    for i in np.lexsort([-share, np.round(iou, 1)]).tolist():
        x, y = points[i].tolist()
        left, right = (
            x + 1.6 * _POINT_RADIUS,
            x + 1.6 * _POINT_RADIUS + _LETTER_WIDTH * len(names[i]),
        )
        place = y
        while any(
            _LabelBox(left, place - _LABEL_HEIGHT / 2, right, place + _LABEL_HEIGHT / 2).overlaps(b)
            for b in taken
        ):
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
