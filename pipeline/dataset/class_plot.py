"""The chart of class frequencies: log bars in class colours, grouped by category."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.plotting import (
    LIGHT_GRAY,
    TEXT_COLOR,
    Axes,
    add_title,
    create_figure,
    format_percent_axis,
    make_legend_patch,
    save_figure,
    style_axes,
)
from segformer.cityscapes import IGNORE, LABELS

_HATCH, _HATCH_COLOR = "////", "#b5b5b5"
_UNSCORED_OPACITY = 0.18
"""How much of its colour is left of a label that is not scored; the rest is white."""
_CATEGORY_GAP = 0.7
"""Between two categories, in widths of a bar's place."""


def plot_class_frequency(by_label: pd.DataFrame, num_frames: int, path: Path) -> None:
    """Draw pixels per label id, and below them how many of the frames show it.

    As figure 1 of the data set's paper (arXiv:1604.01685): classes that are scored in their
    official colour, what is not scored pale and hatched, where it occurs at all.

    Args:
        by_label: columns class, label_id, train_id, category, pixels, share and frames.
        num_frames: that were counted.
        path: where the PNG is written.
    """
    ordered = _order_labels(by_label)
    figure = create_figure(13, 7)
    bars, strip = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    _plot_pixels(bars, ordered)
    _annotate_categories(bars, ordered)
    _plot_frames(strip, ordered, num_frames)
    pixels = by_label["pixels"].sum()
    labelled = by_label.loc[by_label["train_id"] != IGNORE, "pixels"].sum()
    add_title(
        figure,
        "How often each class occurs in training",
        f"{num_frames:,} frames, {_format_number(pixels)} pixels, {100 * labelled / max(pixels, 1):.1f} %"
        " of them of a class that is scored; above each bar its share of these, per cent",
    )
    save_figure(figure, path)


def _order_labels(by_label: pd.DataFrame) -> pd.DataFrame:
    """The labels to draw, with their `place` on the axis.

    Categories by their commonest class, void last; labels by count within a category.
    """
    shown = by_label[(by_label["train_id"] != IGNORE) | (by_label["pixels"] > 0)]
    most = shown.groupby("category")["pixels"].transform("max").where(shown["category"] != "void")
    ordered = shown.assign(most=most.fillna(-1)).sort_values(
        ["most", "category", "pixels"], ascending=[False, True, False], kind="stable"
    )
    begins = ordered["category"] != ordered["category"].shift()
    return ordered.assign(place=np.arange(len(ordered)) + _CATEGORY_GAP * (begins.cumsum() - 1))


def _plot_pixels(axes: Axes, ordered: pd.DataFrame) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    present = ordered.loc[ordered["pixels"] > 0, "pixels"]
    bottom = 10 ** np.floor(np.log10(present.min()) - 0.3)
    axes.set_yscale("log")
    # Room above the highest bar for the names of the categories.
    axes.set_ylim(bottom, present.max() * (present.max() / bottom) ** 0.14)
    for is_scored, labels in ordered.groupby(ordered["train_id"] != IGNORE):
        axes.bar(
            labels["place"],
            labels["pixels"],
            width=0.84,
            color=_colors(labels),
            hatch=None if is_scored else _HATCH,
            edgecolor="#666666" if is_scored else _HATCH_COLOR,
            linewidth=0.6,
        )
    scored = ordered[ordered["train_id"] != IGNORE]
    for place, pixels, share in zip(
        scored["place"], scored["pixels"], scored["share"], strict=True
    ):
        axes.annotate(
            _format_share(share) if pixels else "none",
            (place, max(pixels, bottom)),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=TEXT_COLOR,
        )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _format_number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("pixels, log scale", color=TEXT_COLOR)
    style_axes(axes, grid="y")
    axes.tick_params(axis="both", which="both", length=0)


def _annotate_categories(axes: Axes, ordered: pd.DataFrame) -> None:
    """Each category above its bars, and what the hatching means."""
    for category, group in ordered.groupby("category"):
        axes.annotate(
            str(category),
            (group["place"].mean(), 0.99),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontsize=10.5,
            color="#777777",
        )
    if (ordered["train_id"] == IGNORE).any():
        swatch = make_legend_patch("#f4f4f4", "not scored")
        swatch.set(hatch=_HATCH, edgecolor=_HATCH_COLOR)
        axes.legend(
            handles=[swatch],
            frameon=False,
            fontsize=10,
            loc="upper right",
            bbox_to_anchor=(1, 0.95),
        )


def _plot_frames(axes: Axes, ordered: pd.DataFrame, num_frames: int) -> None:
    """A stem per label: the share of the frames that show it."""
    share = ordered["frames"] / max(num_frames, 1)
    axes.vlines(ordered["place"], 0, share, color=LIGHT_GRAY, linewidth=2)
    axes.scatter(
        ordered["place"],
        share,
        s=26,
        color=_colors(ordered),
        edgecolor="#666666",
        linewidth=0.6,
        zorder=3,
    )
    axes.set_ylim(0, 1.12)
    axes.set_yticks([0, 0.5, 1])
    format_percent_axis(axes, "y")
    axes.set_ylabel("of frames", color=TEXT_COLOR)
    style_axes(axes, grid="y")
    axes.tick_params(axis="x", length=0)
    axes.set_xticks(
        ordered["place"], ordered["class"], rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_xlim(ordered["place"].min() - 0.8, ordered["place"].max() + 0.8)


def _colors(labels: pd.DataFrame) -> NDArray[np.float64]:
    """(labels, 3) RGB in 0..1: the official colours, pale for what is not scored."""
    official = np.array([LABELS[label_id].color for label_id in labels["label_id"]]) / 255.0
    part = np.where(labels["train_id"] == IGNORE, _UNSCORED_OPACITY, 1.0)[:, None]
    return part * official + 1 - part


def _format_share(share: float) -> str:
    """`37`, `6.1`, `0.099`: two digits that count."""
    value = 100 * share
    return f"{value:.0f}" if value >= 9.95 else f"{value:#.2g}"


def _format_number(number: float) -> str:
    """`2.3 billion`, `11 million`, `40,000`: a count as one says it."""
    for size, name in ((1e9, " billion"), (1e6, " million")):
        if number >= size:
            return f"{number / size:.3g}{name}"
    return f"{number:,.0f}"
