"""Charts of one model's scores: how well each class is found, and what it is taken for."""

from pathlib import Path

import numpy as np

from pipeline.figures import (
    TEXT_COLOR,
    LIGHT_GRAY,
    Axes,
    create_figure,
    plot_class_bars,
    add_title,
    format_percent_axis,
    save_figure,
    style_axes,
)
from pipeline.scores import Scores
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES

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
