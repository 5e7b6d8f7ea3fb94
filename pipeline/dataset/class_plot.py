"""The figure of class frequencies: pixels and frames per class, grouped by category."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter
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
"""The opacity, on white, of the color of a label that is not scored."""
_CATEGORY_GAP = 0.7
"""Between two categories, as a fraction of the distance between two bars."""


def plot_class_frequency(by_label: pd.DataFrame, num_frames: int, path: Path) -> None:
    """Draw the pixels of each label id, and below them the share of frames that contain it.

    The figure follows figure 1 of the data set's paper (arXiv:1604.01685): scored classes are in
    their official color; other labels that occur are pale and hatched.

    Args:
        by_label: columns class, label_id, train_id, category, pixels, share and frames.
        num_frames: the number of counted frames.
        path: where the PNG is written.
    """
    ordered = _order_labels(by_label)
    figure = create_figure(13, 7)
    bars, strip = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    _plot_pixels(bars, ordered)
    _annotate_categories(bars, ordered)
    _plot_frames(strip, ordered, num_frames)
    pixels = by_label["pixels"].sum()
    scored = by_label.loc[by_label["train_id"] != IGNORE, "pixels"].sum()
    add_title(
        figure,
        "Class frequency in the training set",
        f"{num_frames:,} frames, {_format_number(pixels)} pixels,"
        f" {100 * scored / max(pixels, 1):.1f} % of them in scored classes;"
        " above each bar: its share of the scored pixels (%)",
    )
    save_figure(figure, path)


def _order_labels(by_label: pd.DataFrame) -> pd.DataFrame:
    """The labels to draw, in order, with their `position` on the axis.

    Categories are sorted by their most frequent label, void last, and labels within a category by
    pixels.
    """
    drawn = by_label[(by_label["train_id"] != IGNORE) | (by_label["pixels"] > 0)]
    highest = drawn.groupby("category")["pixels"].transform("max")
    highest = highest.where(drawn["category"] != "void", -1)
    ordered = drawn.assign(highest=highest).sort_values(
        ["highest", "category", "pixels"], ascending=[False, True, False], kind="stable"
    )
    is_first = ordered["category"] != ordered["category"].shift()
    gaps = _CATEGORY_GAP * (is_first.cumsum() - 1)
    return ordered.assign(position=np.arange(len(ordered)) + gaps)


def _plot_pixels(axes: Axes, ordered: pd.DataFrame) -> None:
    present = ordered.loc[ordered["pixels"] > 0, "pixels"]
    bottom = 10 ** np.floor(np.log10(present.min()) - 0.3)
    axes.set_yscale("log")
    # Space above the highest bar for the names of the categories.
    axes.set_ylim(bottom, present.max() * (present.max() / bottom) ** 0.14)
    for is_scored, labels in ordered.groupby(ordered["train_id"] != IGNORE):
        axes.bar(
            labels["position"],
            labels["pixels"],
            width=0.84,
            color=_colors(labels),
            hatch=None if is_scored else _HATCH,
            edgecolor="#666666" if is_scored else _HATCH_COLOR,
            linewidth=0.6,
        )
    scored = ordered[ordered["train_id"] != IGNORE]
    for position, pixels, share in zip(
        scored["position"], scored["pixels"], scored["share"], strict=True
    ):
        axes.annotate(
            _format_share(share) if pixels else "none",
            (position, max(pixels, bottom)),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=TEXT_COLOR,
        )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _format_number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("pixels (log scale)", color=TEXT_COLOR)
    style_axes(axes, grid="y")
    axes.tick_params(axis="both", which="both", length=0)


def _annotate_categories(axes: Axes, ordered: pd.DataFrame) -> None:
    """Name each category above its bars, and explain the hatching in a legend."""
    for category, group in ordered.groupby("category"):
        axes.annotate(
            str(category),
            (group["position"].mean(), 0.99),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontsize=10.5,
            color="#777777",
        )
    if (ordered["train_id"] == IGNORE).any():
        patch = make_legend_patch("#f4f4f4", "not scored")
        patch.set(hatch=_HATCH, edgecolor=_HATCH_COLOR)
        axes.legend(
            handles=[patch],
            frameon=False,
            fontsize=10,
            loc="upper right",
            bbox_to_anchor=(1, 0.95),
        )


def _plot_frames(axes: Axes, ordered: pd.DataFrame, num_frames: int) -> None:
    """Draw a stem per label: the share of the frames that contain it."""
    share = ordered["frames"] / max(num_frames, 1)
    axes.vlines(ordered["position"], 0, share, color=LIGHT_GRAY, linewidth=2)
    axes.scatter(
        ordered["position"],
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
    axes.set_ylabel("frames", color=TEXT_COLOR)
    style_axes(axes, grid="y")
    axes.tick_params(axis="x", length=0)
    axes.set_xticks(
        ordered["position"], ordered["class"], rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_xlim(ordered["position"].min() - 0.8, ordered["position"].max() + 0.8)


def _colors(labels: pd.DataFrame) -> NDArray[np.float64]:
    """(labels, 3) RGB in 0..1: the official colors, pale for labels that are not scored."""
    official = np.array([LABELS[label_id].color for label_id in labels["label_id"]]) / 255.0
    opacity = np.where(labels["train_id"] == IGNORE, _UNSCORED_OPACITY, 1.0)[:, None]
    return opacity * official + 1 - opacity


def _format_share(share: float) -> str:
    """`37`, `6.1`, `0.099`: a percentage with two significant digits."""
    value = 100 * share
    return f"{value:.0f}" if value >= 9.95 else f"{value:#.2g}"


def _format_number(number: float) -> str:
    """`2.3 billion`, `11 million`, `40,000`: a count in words."""
    for size, name in ((1e9, " billion"), (1e6, " million")):
        if number >= size:
            return f"{number / size:.3g}{name}"
    return f"{number:,.0f}"
