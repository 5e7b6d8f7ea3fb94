"""Compare the scores of a model on corrupted photographs with its clean score."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.corruptions.registry import CORRUPTIONS, FAMILY_BY_CORRUPTION, SEVERITIES
from pipeline.formatting import format_percent
from pipeline.plotting import (
    TEXT_COLOR,
    Axes,
    add_title,
    create_figure,
    format_percent_axis,
    save_figure,
    style_axes,
)
from segformer.metrics.confusion import mean_iou

ALL_CORRUPTIONS = "all"
"""The name of the last row of the table, the mean."""

_COLUMNS = [f"severity_{severity}" for severity in SEVERITIES]
_FAMILY_COLORS = {"noise": "#c0392b", "blur": "#2471a3", "weather": "#1e8449", "digital": "#7d3c98"}


def build_robustness_table(
    clean: NDArray[np.int64], corrupted: Mapping[tuple[str, int], NDArray[np.int64]]
) -> pd.DataFrame:
    """Build the table of mIoU by corruption and severity.

    Args:
        clean: (k, k) confusion of all frames, without corruption.
        corrupted: the same by corruption and severity; each corruption has all five severities.

    Returns:
        A row per corruption, and their mean as the row `all`. Columns: corruption, family, mIoU at
        severity_1 to severity_5, their mean, and relative, the mean divided by the clean mIoU; all
        fractions of 1.
    """
    names = [name for name in CORRUPTIONS if (name, SEVERITIES[0]) in corrupted]
    miou = np.array([[_miou(corrupted[name, s]) for s in SEVERITIES] for name in names])
    table = pd.DataFrame(miou.reshape(-1, len(_COLUMNS)), columns=_COLUMNS)
    table.insert(0, "corruption", names)
    table.insert(1, "family", [FAMILY_BY_CORRUPTION[name] for name in names])
    if names:
        means = {"corruption": ALL_CORRUPTIONS, "family": ALL_CORRUPTIONS, **table[_COLUMNS].mean()}
        table = pd.concat([table, pd.DataFrame([means])], ignore_index=True)
    mean = table[_COLUMNS].mean(axis=1)
    return table.assign(mean=mean, relative=mean / (_miou(clean) or np.nan))


def plot_robustness(
    table: pd.DataFrame, clean_miou: float, *, name: str, protocol: str, path: Path
) -> None:
    """Draw mIoU against severity, one panel per family, with the clean mIoU as a dashed line.

    Args:
        table: the result of `build_robustness_table`, with at least one corruption.
        clean_miou: mIoU without corruption, 0..1.
        name: the name of the model, for the title.
        protocol: the protocol of the clean score.
        path: the PNG to write.
    """
    rows = table[table["corruption"] != ALL_CORRUPTIONS]
    families = list(dict.fromkeys(rows["family"]))
    figure = create_figure(max(3.4 * len(families), 7), 4.6)
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for axes, family in zip(panels, families, strict=True):
        _plot_family(axes, family, rows[rows["family"] == family])
        axes.axhline(clean_miou, color=TEXT_COLOR, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xlabel(f"severity, {family}")
    panels[0].set_ylim(0, max(clean_miou, rows[_COLUMNS].to_numpy().max()) * 1.08)
    panels[0].set_ylabel("mIoU")
    format_percent_axis(panels[0], "y")
    add_title(
        figure,
        f"Robustness to corruptions, {name}",
        f"{protocol}     dashed: clean mIoU, {format_percent(clean_miou)} %; mean under corruption:"
        f" {format_percent(table['relative'].iloc[-1], 0)} % of it",
    )
    save_figure(figure, path)


def _plot_family(axes: Axes, family: str, rows: pd.DataFrame) -> None:
    opacities = np.linspace(1, 0.35, len(rows))
    for i, row in enumerate(rows.itertuples()):
        axes.plot(
            SEVERITIES,
            [getattr(row, column) for column in _COLUMNS],
            color=_FAMILY_COLORS[family],
            alpha=opacities[i],
            linewidth=1.8,
            marker="os^Dv"[i],
            markersize=5,
            label=str(row.corruption).replace("_", " "),
        )
    style_axes(axes, grid="y")
    axes.set_xticks(SEVERITIES)
    axes.legend(frameon=False, fontsize=9.5, loc="lower left")


def _miou(confusion: NDArray[np.int64]) -> float:
    return float(mean_iou(confusion))
