"""The reliability diagram: how often a model is right where it is so sure (arXiv:1706.04599)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.figures import TEXT_COLOR, Axes, create_figure, add_title, make_legend_patch, format_percent_axis, save_figure, style_axes
from pipeline.wording import format_percent
from segformer.calibration import Reliability, expected_calibration_error, reliability

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
