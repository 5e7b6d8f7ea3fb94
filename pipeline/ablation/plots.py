"""Charts of an ablation: differences with intervals, mIoU during training, calibration."""

from pathlib import Path

import numpy as np

from pipeline.ablation.comparison import (
    ALL,
    CALIBRATION,
    FIRST_CLASS,
    FREQUENT,
    RARE,
    Comparison,
    LossResult,
)
from pipeline.ablation.gradients import GradientResults
from pipeline.ablation.verdict import SIGNIFICANCE_LEVEL
from pipeline.formatting import format_count, format_percent
from pipeline.plotting import (
    TEXT_COLOR,
    Axes,
    add_title,
    create_figure,
    format_percent_axis,
    save_figure,
    style_axes,
)
from segformer.cityscapes import CLASS_NAMES

# Okabe and Ito's colours: told apart by the colour-blind too. The baseline comes first.
ARM_COLORS = ("#333333", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MIN_BIN_SHARE = 0.001  # of the pixels, for a bin to be drawn
_BETTER_COLOR, _WORSE_COLOR, _INCONCLUSIVE_COLOR = "#0072B2", "#D55E00", "#8c8c8c"


def plot_differences(comparison: Comparison, path: Path) -> None:
    """Draw for every loss its difference to the baseline, on the means and class by class.

    Args:
        comparison: of at least two losses; with one there is only a note.
        path: where the PNG is written.
    """
    losses = comparison.challengers
    figure = create_figure(5.2 + 4.6 * max(len(losses), 1), 8.6)
    panes = figure.subplots(1, max(len(losses), 1), sharex=True, sharey=True, squeeze=False)[0]
    classes = np.argsort(-comparison.share, kind="stable")
    names = ["all classes", "frequent classes", "rare classes"]
    names += [f"{CLASS_NAMES[k]}{' (rare)' if comparison.is_rare[k] else ''}" for k in classes]
    places = [ALL, FREQUENT, RARE, *(FIRST_CLASS + classes)]
    heights = np.array([0, 1, 2, *(np.arange(len(classes)) + 3.7)])
    bound = _axis_limit([comparison.results[loss] for loss in losses])
    for axes, loss in zip(panes, losses, strict=False):
        _plot_forest(axes, comparison.results[loss], places, heights)
        axes.set_xlabel(f"{loss} less {comparison.baseline}, points of IoU")
        axes.set_xlim(-bound, bound)
    panes[0].set_yticks(heights, names)
    panes[0].set_ylim(heights[-1] + 0.7, -0.7)
    if losses:
        subtitle = (
            "95 % intervals, each by itself. Blue: better, orange: worse, beyond chance (Holm's"
            f" correction); hollow and grey: open\n{_describe_setup(comparison)}"
        )
        add_title(figure, f"{' and '.join(losses)} against {comparison.baseline}", subtitle)
    else:
        add_title(figure, f"Only {comparison.baseline} was trained", "there is nothing to compare")
    save_figure(figure, path)


def _plot_forest(
    axes: Axes, result: LossResult, quantities: list[int], heights: np.ndarray
) -> None:
    difference = result.difference
    assert difference is not None
    assert result.p_holm is not None
    assert result.p_groups is not None
    assert result.p_arm is not None
    means = [[result.p_arm], result.p_groups, difference.p[[CALIBRATION]]]
    p = np.concatenate([*means, result.p_holm])  # (q,)
    axes.axvline(0, color=TEXT_COLOR, linewidth=1)
    axes.axhline(2.85, color="#bbbbbb", linewidth=0.8)
    for place, height in zip(quantities, heights.tolist(), strict=True):
        value, low, high = (
            100 * ends[place] for ends in (difference.value, difference.low, difference.high)
        )
        if np.isnan(low):
            axes.text(0, height, "  too few frames", va="center", fontsize=9, color="#777777")
            continue
        is_sure = p[place] < SIGNIFICANCE_LEVEL
        color = _INCONCLUSIVE_COLOR if not is_sure else _BETTER_COLOR if value > 0 else _WORSE_COLOR
        axes.plot([low, high], [height, height], color=color, linewidth=2.2, solid_capstyle="butt")
        axes.plot(
            value,
            height,
            marker="D" if place < FIRST_CLASS else "o",
            markersize=8,
            color=color,
            markerfacecolor=color if is_sure else "white",
            markeredgewidth=1.8,
        )
    style_axes(axes)


def _axis_limit(results: list[LossResult]) -> float:
    """How far the axis reaches, in points: all estimates, and most intervals to their ends.

    A class in two or three frames can have an interval of half the scale, which would leave
    nothing to be seen of the others.
    """
    differences = [result.difference for result in results if result.difference]
    if not differences:
        return 1.0
    drawn = [place for place in range(len(differences[0].value)) if place != CALIBRATION]
    values = np.abs(np.concatenate([difference.value[drawn] for difference in differences]))
    ends = np.abs(
        np.concatenate([end[drawn] for one in differences for end in (one.low, one.high)])
    )
    known = ends[~np.isnan(ends)]
    widest = 1.1 * np.quantile(known, 0.85) if known.size else 0.0
    return float(100 * max(1.25 * np.nanmax(values, initial=0.0), widest, 0.001))


def plot_validation_curves(comparison: Comparison, path: Path) -> None:
    """Draw validation mIoU against steps: a thin line per seed, a thick one for their mean.

    Args:
        comparison: of one or more losses.
        path: where the PNG is written.
    """
    figure = create_figure(10, 6)
    axes = figure.add_subplot()
    ordered = [comparison.baseline, *comparison.challengers]
    for place, loss in enumerate(ordered):
        color = ARM_COLORS[place % len(ARM_COLORS)]
        validation = comparison.results[loss].validation
        if len(comparison.seeds) > 1:
            axes.plot(
                validation.index, validation.to_numpy(), color=color, linewidth=0.9, alpha=0.45
            )
        axes.plot(
            validation.index,
            validation.mean(axis=1).to_numpy(),
            color=color,
            linewidth=2.6,
            marker="o",
            markersize=5,
            label=loss,
        )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    format_percent_axis(axes, "y", digits=0)
    style_axes(axes, grid="y")
    axes.set_xlabel("training steps")
    axes.set_ylabel("validation mIoU during training")
    axes.legend(frameon=False, fontsize=11, loc="lower right")
    seeds = len(comparison.seeds)
    lines = "one seed" if seeds == 1 else f"thick: mean of {seeds} seeds, thin: each seed"
    add_title(figure, "mIoU against the budget", f"on the packed validation frames; {lines}")
    save_figure(figure, path)


def plot_calibration(comparison: Comparison, path: Path) -> None:
    """Draw accuracy against confidence, all seeds of a loss together; the diagonal is honest.

    Args:
        comparison: of one or more losses.
        path: where the PNG is written.
    """
    figure = create_figure(7.6, 7)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (4, 3)))
    for place, loss in enumerate([comparison.baseline, *comparison.challengers]):
        result = comparison.results[loss]
        pixels, confident, right = result.calibration.T
        held = pixels >= _MIN_BIN_SHARE * pixels.sum()
        axes.plot(
            confident[held] / pixels[held],
            right[held] / pixels[held],
            color=ARM_COLORS[place % len(ARM_COLORS)],
            linewidth=2.2,
            marker="o",
            markersize=6,
            clip_on=False,
            label=f"{loss}: {format_percent(result.scores.value[CALIBRATION])} %",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    format_percent_axis(axes, "x")
    format_percent_axis(axes, "y")
    style_axes(axes, grid="both")
    axes.set_xlabel("confidence in the predicted class")
    axes.set_ylabel("pixels that are right")
    axes.legend(frameon=False, fontsize=11, loc="upper left", title="calibration error")
    subtitle = f"below the dashes: too sure; bins with 0.1 % of the pixels or more\n{_describe_setup(comparison)}"
    add_title(figure, "Accuracy against confidence", subtitle)
    save_figure(figure, path)


def _describe_setup(comparison: Comparison) -> str:
    seeds = len(comparison.seeds)
    return (
        f"{comparison.steps} steps, {comparison.num_frames} frames, {seeds}"
        f" seed{'s' if seeds > 1 else ''}     {comparison.protocol}"
    )


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


def _plot_class_shares(
    axes: Axes, comparison: Comparison, gradients: GradientResults, weights: str
) -> None:
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


def _plot_layer_shares(
    axes: Axes, comparison: Comparison, gradients: GradientResults, weights: str
) -> None:
    places = np.arange(1 + len(gradients.layers))
    for number, loss in enumerate([comparison.baseline, *comparison.challengers]):
        pull = gradients.summaries[weights, loss]
        shares = [
            pull.rare_logit_share(comparison.is_rare),
            *pull.rare_layer_share(comparison.is_rare)[::-1],
        ]
        color = ARM_COLORS[number % len(ARM_COLORS)]
        axes.plot(places, shares, color=color, linewidth=2.2, marker="o", markersize=6)
    axes.axhline(comparison.share[comparison.is_rare].sum(), color="#777777", linewidth=1)
    axes.set_xticks(places, ["scores", *gradients.layers[::-1]], rotation=35, ha="right")
    format_percent_axis(axes, "y")
    style_axes(axes, grid="y")
