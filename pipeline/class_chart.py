"""The chart of class frequencies: log bars in class colours, grouped by category."""

from pathlib import Path

import pandas as pd

from pipeline.figures import canvas, class_colors, headline, save, tidy


def draw_class_frequency(frequency: pd.DataFrame, path: Path) -> None:
    """Draw the table class_frequency.csv as a PNG at `path`.

    Args:
        frequency: columns class, train_id, category, pixels.
        path: where to write.
    """
    figure = canvas(11, 5.5)
    axes = figure.subplots()
    ordered, places = _grouped(frequency)
    colors = class_colors(ordered["train_id"].tolist())
    axes.bar(places, ordered["pixels"], color=colors, edgecolor="0.3", linewidth=0.5, width=0.9)
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(ordered.loc[ordered["pixels"] > 0, "pixels"].min() / 5, 1))
    axes.set_xticks(places, ordered["class"], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_ylabel("labelled pixels (log scale)")
    tidy(axes, grid="y")
    for category, group in ordered.assign(place=places).groupby("category"):
        axes.annotate(
            str(category),
            (group["place"].mean(), 1),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            color="0.4",
        )
    for place, share in zip(places, ordered["pixels"] / ordered["pixels"].sum(), strict=True):
        if share > 0:
            height = share * ordered["pixels"].sum()
            axes.annotate(f"{share:.2%}", (place, height), ha="center", va="bottom", fontsize=7)
    headline(figure, "How often each class occurs in the training frames")
    save(figure, path)


def _grouped(frequency: pd.DataFrame) -> tuple[pd.DataFrame, list[float]]:
    """Categories by their commonest class, classes by count within; a place on the axis each."""
    most = frequency.groupby("category")["pixels"].transform("max")
    ordered = frequency.assign(most=most).sort_values(
        ["most", "category", "pixels"], ascending=[False, True, False]
    )
    gaps = (ordered["category"] != ordered["category"].shift()).cumsum() * 0.6
    return ordered, [float(i + gap) for i, gap in enumerate(gaps)]
