"""The reliability diagram: how often a model is right where it is so sure (arXiv:1706.04599)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.figures import INK, Axes, canvas, headline, patch, percent_axis, save, tidy
from pipeline.wording import percent
from segformer.calibration import Reliability, expected_calibration_error, reliability

_RIGHT, _TOO_SURE, _TOO_UNSURE = "#7fb3d5", "#e9796d", "#f3c677"
_FEW = 0.001
"""A bin with a smaller share of the pixels is drawn pale: it hardly counts."""


def draw_reliability(counts: NDArray[np.float64], *, name: str, protocol: str, path: Path) -> None:
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
    figure = canvas(7.5, 8.5)
    diagram, where = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _draw_bins(diagram, table, share)
    error = float(expected_calibration_error(counts))
    diagram.set(xlim=(0, 1), ylim=(0, 1.002), ylabel="right among them")
    where.bar(table.lower, share, width=0.92 / len(pixels), align="edge", color="#9a9a9a")
    where.set(xlabel="confidence in the predicted class", ylabel="of the pixels")
    for axes in (diagram, where):
        percent_axis(axes, "y")
        tidy(axes, grid="y")
    percent_axis(where)
    headline(
        figure,
        f"Is {name} as often right as it is sure?",
        f"{protocol}     expected calibration error {percent(error)} %",
    )
    save(figure, path)


def _draw_bins(axes: Axes, table: Reliability, share: NDArray[np.float64]) -> None:
    """A bar per bin: the lower of accuracy and confidence, and the gap between them on top."""
    width = 0.92 / len(share)
    for i in np.flatnonzero(share).tolist():
        left, right, sure = (float(x[i]) for x in (table.lower, table.accuracy, table.confidence))
        strength = 1.0 if share[i] >= _FEW else 0.35
        low, gap = min(right, sure), abs(right - sure)
        color = _TOO_SURE if sure > right else _TOO_UNSURE
        axes.bar(left, low, width=width, align="edge", color=_RIGHT, alpha=strength)
        axes.bar(left, gap, width, bottom=low, align="edge", color=color, alpha=strength)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    swatches = [
        patch(_RIGHT, "right, as it should be"),
        patch(_TOO_SURE, "too sure: fewer are right"),
        patch(_TOO_UNSURE, "not sure enough: more are right"),
    ]
    axes.legend(handles=swatches, loc="upper left", frameon=False, fontsize=10)
