"""The report of an ablation in Markdown: the verdict, its tables and its figures."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.ablation.comparison import CLASS_IOU, Comparison, Quantity, class_index
from pipeline.ablation.gradient_report import format_gradient_section
from pipeline.ablation.gradients import GradientResults
from pipeline.ablation.ranking import describe_ranking, mean_validation_miou
from pipeline.ablation.verdict import SIGNIFICANCE_LEVEL, classify_difference, format_verdict
from pipeline.evaluation.bootstrap import CONFIDENCE_LEVEL, Intervals
from pipeline.formatting import (
    NOT_AVAILABLE,
    format_count,
    format_markdown_table,
    format_percent,
    format_points,
)
from segformer.cityscapes import CLASS_NAMES

_MAX_STEPS_LISTED = 10
_ENOUGH_SEEDS = 5  # with more, Student's t falls slowly
_INTERVAL_NOTE = (
    "The 95 % intervals are not corrected for multiple comparisons; each p is corrected for {}, so"
    " the two may disagree."
)


def format_report(comparison: Comparison, gradients: GradientResults) -> str:
    """Compose ablation.md; its figures are files in the same folder."""
    parts = [
        f"# Loss ablation: {comparison.protocol}",
        f"**{format_verdict(comparison)}**",
        _arm_table(comparison),
        _method_note(comparison),
    ]
    if comparison.challengers:
        parts += ["## Rare and frequent classes", _group_section(comparison)]
        parts += ["## IoU by class", _class_section(comparison)]
        parts += ["![Difference in IoU to the baseline by class](differences.png)"]
    parts += ["## Calibration", _calibration_section(comparison)]
    parts += ["![Reliability diagram](calibration.png)"]
    parts += [
        "## Validation mIoU during training",
        _ranking_section(comparison),
        "![Validation mIoU by training step](curves.png)",
    ]
    parts += format_gradient_section(comparison, gradients)
    return "\n\n".join(parts) + "\n"


def _arm_table(comparison: Comparison) -> str:
    rows = []
    for loss, result in comparison.results.items():
        difference = "baseline"
        if result.difference is not None:
            difference = _format_difference(result.difference, Quantity.MIOU, digits=2)
        low, high = (
            format_percent(end[Quantity.MIOU]) for end in (result.scores.low, result.scores.high)
        )
        rows.append(
            [
                f"`{loss}`",
                format_percent(result.scores.value[Quantity.MIOU]),
                f"{low} to {high}" if low != NOT_AVAILABLE else NOT_AVAILABLE,
                format_percent(result.seed_std[Quantity.MIOU], digits=2),
                difference,
            ]
        )
    headers = [
        "loss",
        "mIoU (%)",
        "95 % interval",
        "standard deviation over seeds",
        "difference in points (95 % interval)",
    ]
    return format_markdown_table(headers, rows)


def _method_note(comparison: Comparison) -> str:
    seeds = ", ".join(map(str, comparison.seeds))
    note = (
        f"All arms: {comparison.steps} training steps,"
        f" {format_count(comparison.num_frames, 'frame')},"
        f" seed{'s' if len(comparison.seeds) > 1 else ''} {seeds}. mIoU is the mean over seeds."
        " Intervals combine frame bootstrap and between-seed variance (Student's t for each); they"
        " are wide with few frames or few seeds. Differences are paired by frame and seed, so what"
        " is difficult for both arms cancels."
    )
    return note + _seed_advice(comparison) + _predicted_only_note(comparison)


def _seed_advice(comparison: Comparison) -> str:
    """Advice to train more seeds, where a comparison is inconclusive and seeds are few."""
    seeds = len(comparison.seeds)
    is_inconclusive = any(
        classify_difference(comparison.results[loss]) == "inconclusive"
        for loss in comparison.challengers
    )
    if not is_inconclusive or not 1 < seeds < _ENOUGH_SEEDS:
        return ""
    current, enough = (
        special.stdtrit(n - 1, (1 + CONFIDENCE_LEVEL) / 2) for n in (seeds, _ENOUGH_SEEDS)
    )
    return (
        f" Where the result is inconclusive, train more seeds: with {seeds} an interval reaches"
        f" {current:.1f} between-seed standard errors, with {_ENOUGH_SEEDS} it would reach"
        f" {enough:.1f}. Few seeds do not raise the rate of false alarms, but true differences stay"
        " undetected."
    )


def _predicted_only_note(comparison: Comparison) -> str:
    names = ", ".join(CLASS_NAMES[k] for k in np.flatnonzero(comparison.is_predicted_only))
    if not names:
        return ""
    return (
        f" No pixel of these frames is labeled {names}, but an arm predicts it: it is left out of"
        " every mean here, for all arms alike, and counts as 0 in the official mean of that arm's"
        " metrics.json."
    )


def _group_section(comparison: Comparison) -> str:
    groups = (
        ("rare", Quantity.RARE_MIOU, comparison.is_rare),
        ("frequent", Quantity.FREQUENT_MIOU, comparison.is_frequent),
    )
    rows = []
    for index, (name, quantity, members) in enumerate(groups):
        for loss in comparison.challengers:
            result = comparison.results[loss]
            assert result.difference is not None
            assert result.p_groups is not None
            rows.append(
                [
                    f"{name} ({_format_class_count(comparison, members)} classes)",
                    f"`{loss}`",
                    format_percent(comparison.results[comparison.baseline].scores.value[quantity]),
                    format_percent(result.scores.value[quantity]),
                    _format_difference(result.difference, quantity),
                    _format_p_value(result.p_groups[index]),
                ]
            )
    headers = [
        "classes",
        "loss",
        f"mIoU `{comparison.baseline}` (%)",
        "mIoU of the loss (%)",
        "difference in points",
        "p (Holm)",
    ]
    rare = [CLASS_NAMES[k] for k in np.flatnonzero(comparison.is_rare)]
    note = (
        "Rare classes have less than the median share of the labeled training pixels"
        f" ({', '.join(rare)}). {_INTERVAL_NOTE.format('the two groups')}"
    )
    return f"{format_markdown_table(headers, rows)}\n\n{note}"


def _format_class_count(comparison: Comparison, members: NDArray[np.bool_]) -> str:
    """The number of classes in a group, and how many of them occur in the scored frames."""
    iou = comparison.results[comparison.baseline].scores.value[CLASS_IOU]
    num_scored = int((~np.isnan(iou[members])).sum())
    return str(num_scored) if num_scored == members.sum() else f"{num_scored} of {members.sum()}"


def _class_section(comparison: Comparison) -> str:
    parts = []
    for loss in comparison.challengers:
        result = comparison.results[loss]
        assert result.difference is not None
        assert result.p_holm is not None
        rows = []
        for k in np.argsort(-comparison.share, kind="stable"):
            quantity = class_index(k)
            p = result.p_holm[k]
            rows.append(
                [
                    f"**{CLASS_NAMES[k]}**" if p < SIGNIFICANCE_LEVEL else CLASS_NAMES[k],
                    f"{100 * comparison.share[k]:.2g} %",
                    format_percent(comparison.results[comparison.baseline].scores.value[quantity]),
                    format_percent(result.scores.value[quantity]),
                    _format_difference(result.difference, quantity),
                    _format_p_value(p),
                ]
            )
        headers = [
            "class",
            "share of pixels",
            f"IoU `{comparison.baseline}` (%)",
            f"IoU `{loss}` (%)",
            "difference in points",
            "p (Holm)",
        ]
        parts.append(format_markdown_table(headers, rows))
    note = (
        "Sorted by share of the training pixels. Bold: the difference is significant after Holm's"
        f" correction for all classes. {_INTERVAL_NOTE.format('all classes')} {NOT_AVAILABLE}: the"
        " class occurs in fewer than two frames."
    )
    return "\n\n".join([*parts, note])


def _calibration_section(comparison: Comparison) -> str:
    rows = []
    for loss, result in comparison.results.items():
        difference = "baseline"
        if result.difference is not None:
            difference = _format_difference(result.difference, Quantity.CALIBRATION_ERROR, digits=2)
        pixels, confidence, correct = result.calibration.sum(axis=0)
        pixels = pixels or np.nan
        rows.append(
            [
                f"`{loss}`",
                format_percent(result.scores.value[Quantity.CALIBRATION_ERROR], digits=2),
                format_percent(result.seed_std[Quantity.CALIBRATION_ERROR], digits=2),
                difference,
                format_percent(confidence / pixels),
                format_percent(correct / pixels),
            ]
        )
    headers = [
        "loss",
        "calibration error (%)",
        "standard deviation over seeds",
        "difference in points (95 % interval)",
        "confidence (%)",
        "accuracy (%)",
    ]
    note = (
        "Expected calibration error with 15 bins: the mean gap between the confidence in the"
        " predicted class and the accuracy; lower is better. Confidence above accuracy is"
        " overconfidence."
    )
    return f"{format_markdown_table(headers, rows)}\n\n{note}"


def _ranking_section(comparison: Comparison) -> str:
    means = mean_validation_miou(comparison)
    listed = np.unique(np.linspace(0, len(means) - 1, min(_MAX_STEPS_LISTED, len(means))))
    rows = [
        [str(step), *(format_percent(value) for value in row)]
        for step, row in means.iloc[listed.astype(int)].iterrows()
    ]
    note = (
        "Validation mIoU in per cent, measured during training on the packed frames: compare it"
        " within this table only. These curves are not tested for significance: a change of"
        " ranking, above all an early one, may be noise."
    )
    rankings = [describe_ranking(comparison, loss) for loss in comparison.challengers]
    headers = ["step", *(f"`{loss}`" for loss in means.columns)]
    return "\n\n".join([format_markdown_table(headers, rows), " ".join([note, *rankings]).strip()])


def _format_p_value(p: float) -> str:
    return NOT_AVAILABLE if np.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _format_difference(difference: Intervals, quantity: int, digits: int = 1) -> str:
    value, low, high = (
        format_points(ends[quantity], digits=digits)
        for ends in (difference.value, difference.low, difference.high)
    )
    if np.isnan(difference.value[quantity]):
        return NOT_AVAILABLE
    return (
        f"{value} ({NOT_AVAILABLE if np.isnan(difference.low[quantity]) else f'{low} to {high}'})"
    )
