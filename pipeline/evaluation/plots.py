"""Plot the scores of one model: confusion matrix, IoU by class, calibration, class frequency."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter
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
"""Cells below this share of their row are blank: 361 numbers would be unreadable."""

_MIN_BIN_SHARE = 0.001
"""Bins below this share of the pixels are pale: their accuracy is uncertain."""

_CORRECT_COLOR, _OVERCONFIDENT_COLOR, _UNDERCONFIDENT_COLOR = "#7fb3d5", "#e9796d", "#f3c677"

# Shares of the width and height of the axes.
_LABEL_HEIGHT = 0.036
_CHARACTER_WIDTH = 0.0088
_POINT_RADIUS = 0.009
_LABEL_OFFSET = 1.6 * _POINT_RADIUS


def plot_confusion(scores: Scores, name: str, path: Path) -> None:
    """Plot the confusion matrix, each row divided by its true pixels, in percent.

    Args:
        scores: the scores of one model.
        name: the name of the model, for the title.
        path: the PNG to write.
    """
    total = scores.total.astype(np.float64)
    truth = total.sum(axis=1, keepdims=True)
    share = np.divide(total, truth, where=truth > 0, out=np.full_like(total, np.nan))
    figure = create_figure(12, 11)
    axes = figure.add_subplot()
    # The square root makes small confusions visible beside the diagonal.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(share >= _MIN_CELL_SHARE).tolist():
        value = share[row, column]
        color = "white" if value > 0.3 else TEXT_COLOR
        axes.text(
            column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=9.5, color=color
        )
    _outline_diagonal(axes)
    for row in np.flatnonzero(truth[:, 0] == 0).tolist():
        axes.text(9, row, "no true pixel", ha="center", va="center", fontsize=9, color="#777777")
    axes.set_xticks(
        range(NUM_CLASSES), CLASS_NAMES, rotation=50, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(NUM_CLASSES), CLASS_NAMES)
    axes.set_xticks(np.arange(NUM_CLASSES - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(NUM_CLASSES - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.7)
    axes.tick_params(which="both", length=0, labelcolor=TEXT_COLOR, labelsize=10.5)
    axes.spines[:].set_color(LIGHT_GRAY)
    axes.set_xlabel("predicted class", fontsize=11)
    axes.set_ylabel("true class", fontsize=11)
    add_title(
        figure,
        f"Confusion matrix, {name}",
        f"% of the true pixels of each class, blank below 1 %     {scores.protocol}",
    )
    save_figure(figure, path)


def plot_class_iou(scores: Scores, name: str, metrics: dict[str, float | None], path: Path) -> None:
    """Plot the IoU of every class in its own color, highest on top, with mIoU as a line.

    Args:
        scores: the scores of one model.
        name: the name of the model, for the title.
        metrics: the result of `scores.metrics`.
        path: the PNG to write.
    """
    table = scores.per_class().sort_values("iou", ascending=False, kind="stable")
    iou = table["iou"].to_numpy(np.float64)
    figure = create_figure(10, 7)
    axes = figure.add_subplot()
    plot_class_bars(axes, table["class"].tolist(), iou, table["train_id"].tolist())
    for position, value in enumerate(iou):
        text = "absent" if np.isnan(value) else f"{100 * value:.1f} %"
        axes.text(
            np.nan_to_num(value) + 0.008,
            position,
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
    axes.set_xlabel("IoU")
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
        figure, f"IoU by class, {name}", f"{scores.protocol}     shaded: 95 % interval of mIoU"
    )
    save_figure(figure, path)


def plot_reliability(counts: NDArray[np.float64], *, name: str, protocol: str, path: Path) -> None:
    """Plot the reliability diagram, accuracy by confidence, above the distribution of the pixels.

    Args:
        counts: (m, 3) sums of `calibration_counts`.
        name: the name of the model, for the title.
        protocol: the protocol of the scores.
        path: the PNG to write.
    """
    table = reliability(counts)
    pixels = table.pixels.numpy()
    share = pixels / max(pixels.sum(), 1)
    figure = create_figure(7.5, 8.5)
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _plot_bins(diagram, table, share)
    error = float(expected_calibration_error(counts))
    diagram.set(xlim=(0, 1), ylim=(0, 1.002), ylabel="accuracy")
    histogram.bar(table.lower, share, width=0.92 / len(pixels), align="edge", color="#9a9a9a")
    histogram.set(xlabel="confidence in the predicted class", ylabel="share of pixels")
    for axes in (diagram, histogram):
        format_percent_axis(axes, "y")
        style_axes(axes, grid="y")
    format_percent_axis(histogram)
    add_title(
        figure,
        f"Reliability diagram, {name}",
        f"{protocol}     expected calibration error {format_percent(error)} %",
    )
    save_figure(figure, path)


def plot_frequency_iou(per_class: pd.DataFrame, *, name: str, protocol: str, path: Path) -> None:
    """Plot the IoU of each class against its share of the labeled pixels, on a log scale.

    Args:
        per_class: columns class, train_id, iou and truth_pixels; classes without a true pixel are
            left out.
        name: the name of the model, for the title.
        protocol: the protocol of the scores.
        path: the PNG to write.
    """
    rows = per_class[per_class["truth_pixels"] > 0]
    share = rows["truth_pixels"].to_numpy(np.float64) / rows["truth_pixels"].sum()
    iou = rows["iou"].to_numpy(np.float64)
    figure = create_figure(10, 6.5)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.scatter(
        share,
        iou,
        s=110,
        color=class_colors(rows["train_id"].tolist()),
        edgecolor="#555555",
        linewidth=0.7,
        zorder=3,
    )
    axes.set(xlim=(share.min(initial=0.1) / 1.6, 1.6), ylim=(-0.03, 1.03))
    axes.set_xlabel("share of labeled pixels, log scale")
    axes.set_ylabel("IoU")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    format_percent_axis(axes, "y")
    style_axes(axes, grid="both")
    # Correlation of ranks: pandas would import scipy.stats for the method `spearman`.
    rank_correlation = rows["truth_pixels"].rank().corr(rows["iou"].rank())
    subtitle = protocol
    if not np.isnan(rank_correlation):
        subtitle += f"     rank correlation {rank_correlation:+.2f}"
    add_title(figure, f"Class frequency and IoU, {name}", subtitle)
    _label_points(axes, rows["class"].tolist(), share, iou)
    save_figure(figure, path)


def _outline_diagonal(axes: Axes) -> None:
    for i in range(NUM_CLASSES):
        cell = Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="#888888", zorder=3)
        axes.add_patch(cell)


def _plot_bins(axes: Axes, table: Reliability, share: NDArray[np.float64]) -> None:
    """Plot a bar per bin: the lower of accuracy and confidence, and the gap between them on top."""
    width = 0.92 / len(share)
    for i in np.flatnonzero(share).tolist():
        left, accuracy, confidence = (
            float(values[i]) for values in (table.lower, table.accuracy, table.confidence)
        )
        opacity = 1.0 if share[i] >= _MIN_BIN_SHARE else 0.35
        low, gap = min(accuracy, confidence), abs(accuracy - confidence)
        color = _OVERCONFIDENT_COLOR if confidence > accuracy else _UNDERCONFIDENT_COLOR
        axes.bar(left, low, width=width, align="edge", color=_CORRECT_COLOR, alpha=opacity)
        axes.bar(left, gap, width, bottom=low, align="edge", color=color, alpha=opacity)
    axes.plot([0, 1], [0, 1], color=TEXT_COLOR, linewidth=1.2, linestyle=(0, (4, 3)))
    patches = [
        make_legend_patch(_CORRECT_COLOR, "calibrated"),
        make_legend_patch(_OVERCONFIDENT_COLOR, "overconfident"),
        make_legend_patch(_UNDERCONFIDENT_COLOR, "underconfident"),
    ]
    axes.legend(handles=patches, loc="upper left", frameon=False, fontsize=10)


@dataclass(frozen=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "_Box") -> bool:
        is_beside = self.right <= other.left or other.right <= self.left
        return not (is_beside or self.top <= other.bottom or other.top <= self.bottom)


def _label_points(
    axes: Axes, names: list[str], share: NDArray[np.float64], iou: NDArray[np.float64]
) -> None:
    """Write each name beside its point, raised until it overlaps no point and no other name."""
    to_axes = axes.transScale + axes.transLimits
    points = to_axes.transform(np.stack([share, iou], axis=1))
    occupied = [
        _Box(x - _POINT_RADIUS, y - _LABEL_OFFSET, x + _POINT_RADIUS, y + _LABEL_OFFSET)
        for x, y in points.tolist()
    ]
    # From the bottom up, and of neighbors the rightmost first: the thin lines do not cross.
    for i in np.lexsort([-share, np.round(iou, 1)]).tolist():
        x, y = points[i].tolist()
        left = x + _LABEL_OFFSET
        right = left + _CHARACTER_WIDTH * len(names[i])
        center = y
        while any(
            _Box(left, center - _LABEL_HEIGHT / 2, right, center + _LABEL_HEIGHT / 2).overlaps(box)
            for box in occupied
        ):
            center += _LABEL_HEIGHT / 4
        occupied.append(_Box(left, center - _LABEL_HEIGHT / 2, right, center + _LABEL_HEIGHT / 2))
        axes.annotate(
            names[i],
            (x, y),
            xytext=(left, center),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=10,
            color=TEXT_COLOR,
            va="center",
            zorder=2,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6},
        )
