"""The report of an ablation, in Markdown: the verdict, its tables and its figures."""

import numpy as np
from numpy.typing import NDArray

from pipeline.ablation.comparison import ALL, CALIBRATION, FIRST_CLASS, FREQUENT, RARE, Comparison
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
    "Each interval is by itself at 95 %, each p corrected for {}: the two may disagree."
)


def format_report(comparison: Comparison, gradients: GradientResults) -> str:
    """Compose ablation.md; the figures it shows lie beside it."""
    parts = [
        f"# Ablation of losses: {comparison.protocol}",
        f"**{format_verdict(comparison)}**",
        _arm_table(comparison),
        _reading_note(comparison),
    ]
    if comparison.challengers:
        parts += ["## Rare and frequent classes", _group_section(comparison)]
        parts += ["## Class by class", _class_section(comparison)]
        parts += ["![Difference to the baseline per class](differences.png)"]
    parts += ["## Calibration", _calibration_section(comparison)]
    parts += ["![Accuracy against confidence](calibration.png)"]
    parts += [
        "## During training",
        _ranking_section(comparison),
        "![mIoU against steps](curves.png)",
    ]
    parts += format_gradient_section(comparison, gradients)
    return "\n\n".join(parts) + "\n"


def _arm_table(comparison: Comparison) -> str:
    rows = []
    for loss, result in comparison.results.items():
        difference = "baseline"
        if result.difference is not None:
            difference = _format_difference(result.difference, ALL, digits=2)
        low, high = format_percent(result.scores.low[ALL]), format_percent(result.scores.high[ALL])
        rows.append(
            [
                f"`{loss}`",
                format_percent(result.scores.value[ALL]),
                f"{low} to {high}" if low != NOT_AVAILABLE else NOT_AVAILABLE,
                format_percent(result.seed_std[ALL], digits=2),
                difference,
            ]
        )
    titles = [
        "loss",
        "mIoU",
        "95 % interval",
        "deviation over seeds",
        "difference in points (95 % interval)",
    ]
    return format_markdown_table(titles, rows)


def _reading_note(comparison: Comparison) -> str:
    seeds = ", ".join(map(str, comparison.seeds))
    told = (
        f"All arms: {comparison.steps} training steps, {format_count(comparison.num_frames, 'frame')},"
        f" seed{'s' if len(comparison.seeds) > 1 else ''} {seeds}; mIoU in per cent, the mean over"
        " seeds. Intervals join the bootstrap over frames with the spread between seeds, each by"
        " Student's t for its own number, and are wide where there are few of either. Differences"
        " are paired, on the same frames and seeds: what is hard for both arms cancels."
    )
    return told + _seed_advice(comparison) + _predicted_only_note(comparison)


def _seed_advice(comparison: Comparison) -> str:
    """What stands in the way of a verdict where the data cannot tell and seeds are few."""
    # Every command loads this module, and SciPy takes a while.
    from scipy import special

    seeds = len(comparison.seeds)
    is_open = any(
        classify_difference(comparison.results[loss]) == "open" for loss in comparison.challengers
    )
    if not is_open or not 1 < seeds < _ENOUGH_SEEDS:
        return ""
    now, then = (special.stdtrit(n - 1, (1 + CONFIDENCE_LEVEL) / 2) for n in (seeds, _ENOUGH_SEEDS))
    return (
        f" Where the data cannot tell, train more seeds: with {seeds} an interval reaches"
        f" {now:.1f} standard errors of their spread, with {_ENOUGH_SEEDS} it would reach {then:.1f}."
        " Few seeds raise no more false alarms than many, but hide differences that are there."
    )


def _predicted_only_note(comparison: Comparison) -> str:
    names = ", ".join(CLASS_NAMES[k] for k in np.flatnonzero(comparison.is_predicted_only))
    if not names:
        return ""
    return (
        f" No pixel of these frames is truly {names}, though an arm predicts it: left out of every"
        " mean here, for all arms alike, and counted as 0 for that arm in the official mean of its"
        " metrics.json."
    )


def _group_section(comparison: Comparison) -> str:
    rows = []
    for name, place, members in (
        ("rare", RARE, comparison.is_rare),
        ("frequent", FREQUENT, comparison.is_frequent),
    ):
        for loss in comparison.challengers:
            difference = comparison.results[loss].difference
            p_groups = comparison.results[loss].p_groups
            assert difference is not None
            assert p_groups is not None
            rows.append(
                [
                    f"{name} ({_format_class_count(comparison, members)} classes)",
                    f"`{loss}`",
                    format_percent(comparison.results[comparison.baseline].scores.value[place]),
                    format_percent(comparison.results[loss].scores.value[place]),
                    _format_difference(difference, place),
                    _format_p_value(p_groups[place - RARE]),
                ]
            )
    titles = [
        "classes",
        "loss",
        f"mIoU `{comparison.baseline}`",
        "mIoU of the loss",
        "difference in points",
        "p (Holm)",
    ]
    rare = [CLASS_NAMES[k] for k in np.flatnonzero(comparison.is_rare)]
    note = (
        f"Rare: less than the median share of the labelled training pixels ({', '.join(rare)})."
        f" {_INTERVAL_NOTE.format('both groups')}"
    )
    return f"{format_markdown_table(titles, rows)}\n\n{note}"


def _format_class_count(comparison: Comparison, members: NDArray[np.bool_]) -> str:
    """How many of these classes there are, and how many of them the frames have."""
    iou = comparison.results[comparison.baseline].scores.value[FIRST_CLASS:]
    scored = int((~np.isnan(iou[members])).sum())
    return str(scored) if scored == members.sum() else f"{scored} of {members.sum()}"


def _class_section(comparison: Comparison) -> str:
    parts = []
    for loss in comparison.challengers:
        result = comparison.results[loss]
        assert result.difference is not None
        assert result.p_holm is not None
        rows = []
        for k in np.argsort(-comparison.share, kind="stable"):
            place = FIRST_CLASS + k
            p = result.p_holm[k]
            rows.append(
                [
                    f"**{CLASS_NAMES[k]}**" if p < SIGNIFICANCE_LEVEL else CLASS_NAMES[k],
                    f"{100 * comparison.share[k]:.2g} %",
                    format_percent(comparison.results[comparison.baseline].scores.value[place]),
                    format_percent(result.scores.value[place]),
                    _format_difference(result.difference, place),
                    _format_p_value(p),
                ]
            )
        titles = [
            "class",
            "share",
            f"IoU `{comparison.baseline}`",
            f"IoU `{loss}`",
            "difference in points",
            "p (Holm)",
        ]
        parts.append(format_markdown_table(titles, rows))
    note = (
        "Commonest class first. Bold: the difference holds after Holm's correction for all classes."
        f" {_INTERVAL_NOTE.format('all classes')} {NOT_AVAILABLE}: the class occurs in fewer than two frames."
    )
    return "\n\n".join([*parts, note])


def _calibration_section(comparison: Comparison) -> str:
    rows = []
    for loss, result in comparison.results.items():
        difference = "baseline"
        if result.difference is not None:
            difference = _format_difference(result.difference, CALIBRATION, digits=2)
        pixels, confident, right = result.calibration.sum(axis=0)
        pixels = pixels or np.nan
        rows.append(
            [
                f"`{loss}`",
                format_percent(result.scores.value[CALIBRATION], digits=2),
                format_percent(result.seed_std[CALIBRATION], digits=2),
                difference,
                format_percent(confident / pixels),
                format_percent(right / pixels),
            ]
        )
    titles = ["loss", "calibration error", "deviation over seeds", "difference in points"]
    note = (
        "Expected calibration error in per cent, 15 bins: how far the confidence in the predicted"
        " class is from the share of pixels that are right; lower is better. Confidence over"
        " accuracy is overconfidence."
    )
    return f"{format_markdown_table([*titles, 'confidence', 'accuracy'], rows)}\n\n{note}"


def _ranking_section(comparison: Comparison) -> str:
    of_losses = mean_validation_miou(comparison)
    shown = np.unique(np.linspace(0, len(of_losses) - 1, min(_MAX_STEPS_LISTED, len(of_losses))))
    rows = [
        [str(step), *(format_percent(value) for value in row)]
        for step, row in of_losses.iloc[shown.astype(int)].iterrows()
    ]
    note = (
        "Validation mIoU in per cent, measured during training on the packed frames: to be compared"
        " within this table only. These curves are not tested: a flip, an early one above all, may"
        " be noise."
    )
    told = [describe_ranking(comparison, loss) for loss in comparison.challengers]
    titles = ["steps", *(f"`{loss}`" for loss in of_losses.columns)]
    return "\n\n".join([format_markdown_table(titles, rows), " ".join([note, *told]).strip()])


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
