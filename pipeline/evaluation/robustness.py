"""How much of its score a model keeps where its photographs are corrupted."""

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
"""The name of the table's last row."""

_COLUMNS = [f"severity_{severity}" for severity in SEVERITIES]
_FAMILY_COLORS = {"noise": "#c0392b", "blur": "#2471a3", "weather": "#1e8449", "digital": "#7d3c98"}
"""Of the families."""


def build_robustness_table(
    clean: NDArray[np.int64], corrupted: Mapping[tuple[str, int], NDArray[np.int64]]
) -> pd.DataFrame:
    """Compare the scores under corruptions with that of the photographs as they are.

    Args:
        clean: (k, k) confusion of all frames.
        corrupted: the same of the same frames, by name and severity; all five of a name.

    Returns:
        A row per corruption, and the mean of them as `all`: corruption, family, mIoU at severity_1
        to severity_5, their mean, and relative, the mean over the clean mIoU; fractions of 1.
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
    """Draw mIoU against severity, a panel for each family, the clean score as a dashed line.

    Args:
        table: what `robustness_table` returned, with at least one corruption.
        clean_miou: 0..1.
        name: of the model, for the title.
        protocol: of the clean score.
        path: where the PNG is written.
    """
    rows = table[table["corruption"] != ALL_CORRUPTIONS]
    families = list(dict.fromkeys(rows["family"]))
    figure = create_figure(max(3.4 * len(families), 7), 4.6)
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for axes, family in zip(panels, families, strict=True):
        _plot_family(axes, family, rows[rows["family"] == family])
        axes.axhline(clean_miou, color=TEXT_COLOR, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xlabel(f"severity of {family}")
    panels[0].set_ylim(0, max(clean_miou, rows[_COLUMNS].to_numpy().max()) * 1.08)
    panels[0].set_ylabel("mIoU")
    format_percent_axis(panels[0], "y")
    add_title(
        figure,
        f"{name} keeps {format_percent(table['relative'].iloc[-1], 0)} % of its mIoU under corruption",
        f"{protocol}     dashed: without corruption, {format_percent(clean_miou)} %",
    )
    save_figure(figure, path)


def _plot_family(axes: Axes, family: str, rows: pd.DataFrame) -> None:
    shades = np.linspace(1, 0.35, len(rows))
    for i, row in enumerate(rows.itertuples()):
        axes.plot(
            SEVERITIES,
            [getattr(row, column) for column in _COLUMNS],
            color=_FAMILY_COLORS[family],
            alpha=shades[i],
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
