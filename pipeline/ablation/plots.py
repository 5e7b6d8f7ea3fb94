"""Figures of an ablation: differences, mIoU during training, calibration, gradient by class."""

from pathlib import Path

import numpy as np

from pipeline.ablation.comparison import (
    CLASS_IOU,
    Comparison,
    LossResult,
    Quantity,
    class_index,
)
from pipeline.ablation.gradients import GradientResults
from pipeline.ablation.verdict import SIGNIFICANCE_LEVEL
from pipeline.colors import LOSS_COLORS
from pipeline.evaluation.bootstrap import Floats
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

_MIN_BIN_SHARE = 0.001  # of the pixels, for a bin of confidence to be drawn
_MIN_GRADIENT_SHARE = 1e-4  # fraction of 1; the axis is logarithmic
_BETTER_COLOR, _WORSE_COLOR, _INCONCLUSIVE_COLOR = "#0072B2", "#D55E00", "#8c8c8c"


def plot_differences(comparison: Comparison, path: Path) -> None:
    """Draw each loss's difference in IoU to the baseline: means of groups, then each class.

    Args:
        comparison: of at least two losses; with one the figure has only a note.
        path: where the PNG is written.
    """
    losses = comparison.challengers
    figure = create_figure(5.2 + 4.6 * max(len(losses), 1), 8.6)
    panes = figure.subplots(1, max(len(losses), 1), sharex=True, sharey=True, squeeze=False)[0]
    order = np.argsort(-comparison.share, kind="stable")
    names = ["all classes", "frequent classes", "rare classes"]
    names += [_format_class(comparison, k) for k in order]
    quantities: list[int] = [Quantity.MIOU, Quantity.FREQUENT_MIOU, Quantity.RARE_MIOU]
    quantities += [class_index(k) for k in order]
    heights = np.array([0, 1, 2, *(np.arange(len(order)) + 3.7)])
    bound = _axis_limit([comparison.results[loss] for loss in losses])
    for axes, loss in zip(panes, losses, strict=False):
        _plot_forest(axes, comparison.results[loss], quantities, heights)
        axes.set_xlabel(f"{loss} minus {comparison.baseline}, percentage points")
        axes.set_xlim(-bound, bound)
    panes[0].set_yticks(heights, names)
    panes[0].set_ylim(heights[-1] + 0.7, -0.7)
    title = f"Difference in IoU to the baseline {comparison.baseline}"
    if losses:
        subtitle = (
            "95 % intervals, not corrected for multiple comparisons\n"
            "blue: better, orange: worse (p < 0.05 after Holm's correction), hollow: inconclusive\n"
            f"{_describe_setup(comparison)}"
        )
        add_title(figure, title, subtitle)
    else:
        add_title(figure, title, "no other loss was trained")
    save_figure(figure, path)


def _plot_forest(
    axes: Axes, result: LossResult, quantities: list[int], heights: np.ndarray
) -> None:
    difference = result.difference
    assert difference is not None
    assert result.p_holm is not None
    assert result.p_groups is not None
    assert result.p_arm is not None
    p_means = np.full(len(Quantity), np.nan)
    p_means[Quantity.MIOU] = result.p_arm
    p_means[[Quantity.RARE_MIOU, Quantity.FREQUENT_MIOU]] = result.p_groups
    p = np.concatenate([p_means, result.p_holm])  # (q,)
    axes.axvline(0, color=TEXT_COLOR, linewidth=1)
    axes.axhline(2.85, color="#bbbbbb", linewidth=0.8)
    for quantity, height in zip(quantities, heights.tolist(), strict=True):
        value, low, high = (
            100 * ends[quantity] for ends in (difference.value, difference.low, difference.high)
        )
        if np.isnan(low):
            axes.text(0, height, "  too few frames", va="center", fontsize=9, color="#777777")
            continue
        is_significant = p[quantity] < SIGNIFICANCE_LEVEL
        significant_color = _BETTER_COLOR if value > 0 else _WORSE_COLOR
        color = significant_color if is_significant else _INCONCLUSIVE_COLOR
        axes.plot([low, high], [height, height], color=color, linewidth=2.2, solid_capstyle="butt")
        axes.plot(
            value,
            height,
            marker="D" if quantity < len(Quantity) else "o",
            markersize=8,
            color=color,
            markerfacecolor=color if is_significant else "white",
            markeredgewidth=1.8,
        )
    style_axes(axes)


def _axis_limit(results: list[LossResult]) -> float:
    """The end of the axis, in percentage points: beyond all estimates and most intervals.

    The interval of a class in two or three frames can cover half the scale; an axis that held it
    would hide the other classes.
    """
    differences = [result.difference for result in results if result.difference]
    if not differences:
        return 1.0
    means = [Quantity.MIOU, Quantity.RARE_MIOU, Quantity.FREQUENT_MIOU]

    def select(values: Floats) -> Floats:
        return np.asarray(np.abs(np.concatenate([values[means], values[CLASS_IOU]])))

    estimates = np.concatenate([select(difference.value) for difference in differences])
    ends = np.concatenate(
        [select(end) for difference in differences for end in (difference.low, difference.high)]
    )
    defined = ends[~np.isnan(ends)]
    widest = 1.1 * np.quantile(defined, 0.85) if defined.size else 0.0
    return float(100 * max(1.25 * np.nanmax(estimates, initial=0.0), widest, 0.001))


def plot_validation_curves(comparison: Comparison, path: Path) -> None:
    """Draw validation mIoU by training step: a thin line per seed, a thick one for their mean.

    Args:
        comparison: of one or more losses.
        path: where the PNG is written.
    """
    figure = create_figure(10, 6)
    axes = figure.add_subplot()
    for loss in _order_losses(comparison):
        color = LOSS_COLORS[loss]
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
    axes.set_xlabel("training step")
    axes.set_ylabel("validation mIoU")
    axes.legend(frameon=False, fontsize=11, loc="lower right")
    seeds = len(comparison.seeds)
    lines = "one seed" if seeds == 1 else f"thick: mean of {seeds} seeds, thin: each seed"
    add_title(figure, "Validation mIoU during training", f"packed validation frames; {lines}")
    save_figure(figure, path)


def plot_calibration(comparison: Comparison, path: Path) -> None:
    """Draw a reliability diagram: accuracy by confidence, all seeds of a loss together.

    Args:
        comparison: of one or more losses.
        path: where the PNG is written.
    """
    figure = create_figure(7.6, 7)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (4, 3)))
    for loss in _order_losses(comparison):
        result = comparison.results[loss]
        pixels, confidence, correct = result.calibration.T
        is_drawn = pixels >= _MIN_BIN_SHARE * pixels.sum()
        error = format_percent(result.scores.value[Quantity.CALIBRATION_ERROR])
        axes.plot(
            confidence[is_drawn] / pixels[is_drawn],
            correct[is_drawn] / pixels[is_drawn],
            color=LOSS_COLORS[loss],
            linewidth=2.2,
            marker="o",
            markersize=6,
            clip_on=False,
            label=f"{loss}: {error} %",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    format_percent_axis(axes, "x")
    format_percent_axis(axes, "y")
    style_axes(axes, grid="both")
    axes.set_xlabel("confidence in the predicted class")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=11, loc="upper left", title="expected calibration error")
    subtitle = (
        "below the dashed line: overconfident; bins with at least 0.1 % of the pixels\n"
        f"{_describe_setup(comparison)}"
    )
    add_title(figure, "Reliability diagram", subtitle)
    save_figure(figure, path)


def plot_gradients(comparison: Comparison, gradients: GradientResults, path: Path) -> None:
    """Draw a column per kind of weights: gradient by class above, rare classes by layer below.

    Args:
        comparison: for the classes' shares of the pixels, and which classes are rare.
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
    panes[1][0].set_ylabel("rare classes' share of the gradient")
    panes[1][0].set_ylim(bottom=0)  # after all are drawn: the panes of a row share it
    panes[0][0].legend(frameon=False, fontsize=10, loc="upper left")
    setup = (
        f"batch of {format_count(gradients.num_frames, 'training frame')},"
        f" {format_count(gradients.num_seeds, 'seed')}; gray: share of the training pixels"
    )
    figure.supxlabel(setup, fontsize=10, color="#555555")
    add_title(
        figure,
        "Gradient by class at the logits (top), of the rare classes by layer (bottom)",
    )
    save_figure(figure, path)


def _plot_class_shares(
    axes: Axes, comparison: Comparison, gradients: GradientResults, weights: str
) -> None:
    order = np.argsort(-comparison.share, kind="stable")
    heights = np.arange(len(order))
    shares = np.maximum(comparison.share[order], _MIN_GRADIENT_SHARE)
    axes.plot(shares, heights, "|", color="#777777", markersize=13, label="share of pixels")
    for loss in _order_losses(comparison):
        axes.plot(
            np.maximum(gradients.summaries[weights, loss].logit_share[order], _MIN_GRADIENT_SHARE),
            heights,
            "o",
            color=LOSS_COLORS[loss],
            markersize=7,
            alpha=0.85,
            label=loss,
        )
    axes.set_yticks(heights, [_format_class(comparison, k) for k in order])
    axes.set_ylim(heights[-1] + 0.7, -0.7)
    axes.set_xscale("log")
    axes.set_xlim(_MIN_GRADIENT_SHARE / 1.3, 1)
    axes.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["0.01 %", "0.1 %", "1 %", "10 %", "100 %"])
    axes.minorticks_off()
    axes.set_xlabel("share of the sum of |dL/ds|, log scale")
    step = gradients.steps[weights]
    title = "initial weights" if step == 0 else f"trained with {weights}, step {step}"
    axes.set_title(title, loc="left", fontsize=11, pad=8)
    style_axes(axes, grid="both")


def _plot_layer_shares(
    axes: Axes, comparison: Comparison, gradients: GradientResults, weights: str
) -> None:
    positions = np.arange(1 + len(gradients.layers))
    for loss in _order_losses(comparison):
        summary = gradients.summaries[weights, loss]
        shares = [
            summary.rare_logit_share(comparison.is_rare),
            *summary.rare_layer_share(comparison.is_rare)[::-1],
        ]
        axes.plot(
            positions, shares, color=LOSS_COLORS[loss], linewidth=2.2, marker="o", markersize=6
        )
    axes.axhline(comparison.share[comparison.is_rare].sum(), color="#777777", linewidth=1)
    axes.set_xticks(positions, ["logits", *gradients.layers[::-1]], rotation=35, ha="right")
    format_percent_axis(axes, "y")
    style_axes(axes, grid="y")


def _order_losses(comparison: Comparison) -> list[str]:
    return [comparison.baseline, *comparison.challengers]


def _format_class(comparison: Comparison, train_id: int) -> str:
    return f"{CLASS_NAMES[train_id]}{' (rare)' if comparison.is_rare[train_id] else ''}"


def _describe_setup(comparison: Comparison) -> str:
    return (
        f"{comparison.steps} steps, {format_count(comparison.num_frames, 'frame')},"
        f" {format_count(len(comparison.seeds), 'seed')}     {comparison.protocol}"
    )
