"""The chart of an ablation's gradients: each class's share, and the rare ones' share by layer."""

from pathlib import Path

import numpy as np

from pipeline.arm_charts import ARM_COLORS
from pipeline.comparison import Comparison
from pipeline.figures import Axes, create_figure, add_title, format_percent_axis, save_figure, style_axes
from pipeline.pulls import GradientResults
from pipeline.wording import format_count
from segformer.cityscapes import CLASS_NAMES

_MIN_GRADIENT_SHARE = 1e-4  # share; the axis is logarithmic


def plot_gradients(comparison: Comparison, gradients: GradientResults, path: Path) -> None:
    """Draw a column per kind of weights: the classes above, the layers below.

    Args:
        comparison: for the classes' shares of the pixels, and which are rare.
        gradients: of the same losses.
        path: where the PNG is written.
    """
    kinds = list(gradients.steps)
    figure = create_figure(3.2 + 3.9 * len(kinds), 10.4)
    panes = figure.subplots(
        2, len(kinds), sharex="row", sharey="row", squeeze=False, height_ratios=(2.3, 1)
    )
    for column, weights in enumerate(kinds):
        _plot_class_shares(panes[0][column], comparison, gradients, weights)
        _plot_layer_shares(panes[1][column], comparison, gradients, weights)
    panes[1][0].set_ylabel("share of the rare classes")
    panes[1][0].set_ylim(bottom=0)  # after all are drawn: the panes of a row share it
    panes[0][0].legend(frameon=False, fontsize=10, loc="upper left")
    basis = f"batch of {gradients.num_frames} training frames, {format_count(gradients.num_seeds, 'seed')}"
    figure.supxlabel(f"{basis}; grey: share of the training pixels", fontsize=10, color="#555555")
    add_title(figure, "Whose pixels pull: each class's share of the gradient at the scores")
    save_figure(figure, path)


def _plot_class_shares(axes: Axes, comparison: Comparison, gradients: GradientResults, weights: str) -> None:
    order = np.argsort(-comparison.share, kind="stable")
    heights = np.arange(len(order))
    shares = np.maximum(comparison.share[order], _MIN_GRADIENT_SHARE)
    axes.plot(shares, heights, "|", color="#777777", markersize=13, label="share of pixels")
    losses = [comparison.baseline, *comparison.challengers]
    for place, loss in enumerate(losses):
        axes.plot(
            np.maximum(gradients.summaries[weights, loss].logit_share[order], _MIN_GRADIENT_SHARE),
            heights,
            "o",
            color=ARM_COLORS[place % len(ARM_COLORS)],
            markersize=7,
            alpha=0.85,
            label=loss,
        )
    names = [f"{CLASS_NAMES[k]}{' (rare)' if comparison.is_rare[k] else ''}" for k in order]
    axes.set_yticks(heights, names)
    axes.set_ylim(heights[-1] + 0.7, -0.7)
    axes.set_xscale("log")
    axes.set_xlim(_MIN_GRADIENT_SHARE / 1.3, 1)
    axes.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["0.01 %", "0.1 %", "1 %", "10 %", "100 %"])
    axes.minorticks_off()
    step = gradients.steps[weights]
    title = "before the first step" if step == 0 else f"trained with {weights}, step {step}"
    axes.set_title(title, loc="left", fontsize=11, pad=8)
    style_axes(axes, grid="both")


def _plot_layer_shares(axes: Axes, comparison: Comparison, gradients: GradientResults, weights: str) -> None:
    places = np.arange(1 + len(gradients.layers))
    for number, loss in enumerate([comparison.baseline, *comparison.challengers]):
        pull = gradients.summaries[weights, loss]
        shares = [pull.rare_logit_share(comparison.is_rare), *pull.rare_layer_share(comparison.is_rare)[::-1]]
        color = ARM_COLORS[number % len(ARM_COLORS)]
        axes.plot(places, shares, color=color, linewidth=2.2, marker="o", markersize=6)
    axes.axhline(comparison.share[comparison.is_rare].sum(), color="#777777", linewidth=1)
    axes.set_xticks(places, ["scores", *gradients.layers[::-1]], rotation=35, ha="right")
    format_percent_axis(axes, "y")
    style_axes(axes, grid="y")
