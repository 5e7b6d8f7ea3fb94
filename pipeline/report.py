"""The report of an ablation, in Markdown: the verdict, its tables and its figures."""

import numpy as np
from numpy.typing import NDArray

from pipeline.bootstrap import LEVEL, Intervals
from pipeline.budgets import means, ranking
from pipeline.comparison import ALL, CALIBRATION, FIRST_CLASS, FREQUENT, RARE, Comparison
from pipeline.markdown import table
from pipeline.pull_report import write_pulls
from pipeline.pulls import Pulls
from pipeline.verdict import SIGNIFICANT, outcome, verdict
from pipeline.wording import NOTHING, count, percent, points
from segformer.cityscapes import CLASS_NAMES

_STEPS_SHOWN = 10
_MANY_SEEDS = 5  # with more, Student's t falls slowly
_BY_ITSELF = "Each interval is by itself at 95 %, each p corrected for {}: the two may disagree."


def write_report(comparison: Comparison, pulls: Pulls) -> str:
    """Compose ablation.md; the figures it shows lie beside it."""
    parts = [
        f"# Ablation of losses: {comparison.protocol}",
        f"**{verdict(comparison)}**",
        _arms(comparison),
        _reading(comparison),
    ]
    if comparison.challengers:
        parts += ["## Rare and frequent classes", _groups(comparison)]
        parts += ["## Class by class", _classes(comparison)]
        parts += ["![Difference to the baseline per class](differences.png)"]
    parts += ["## Calibration", _calibration(comparison)]
    parts += ["![Accuracy against confidence](calibration.png)"]
    parts += ["## During training", _budgets(comparison), "![mIoU against steps](curves.png)"]
    parts += write_pulls(comparison, pulls)
    return "\n\n".join(parts) + "\n"


def _arms(comparison: Comparison) -> str:
    rows = []
    for loss, result in comparison.results.items():
        difference = "baseline"
        if result.difference is not None:
            difference = _between(result.difference, ALL, digits=2)
        low, high = percent(result.scores.low[ALL]), percent(result.scores.high[ALL])
        rows.append(
            [
                f"`{loss}`",
                percent(result.scores.value[ALL]),
                f"{low} to {high}" if low != NOTHING else NOTHING,
                percent(result.deviation[ALL], digits=2),
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
    return table(titles, rows)


def _reading(comparison: Comparison) -> str:
    seeds = ", ".join(map(str, comparison.seeds))
    told = (
        f"All arms: {comparison.steps} training steps, {count(comparison.num_frames, 'frame')},"
        f" seed{'s' if len(comparison.seeds) > 1 else ''} {seeds}; mIoU in per cent, the mean over"
        " seeds. Intervals join the bootstrap over frames with the spread between seeds, each by"
        " Student's t for its own number, and are wide where there are few of either. Differences"
        " are paired, on the same frames and seeds: what is hard for both arms cancels."
    )
    return told + _more_seeds(comparison) + _imagined(comparison)


def _more_seeds(comparison: Comparison) -> str:
    """What stands in the way of a verdict where the data cannot tell and seeds are few."""
    # Every command loads this module, and SciPy takes a while.
    from scipy import special

    seeds = len(comparison.seeds)
    is_open = any(outcome(comparison.results[loss]) == "open" for loss in comparison.challengers)
    if not is_open or not 1 < seeds < _MANY_SEEDS:
        return ""
    now, then = (special.stdtrit(n - 1, (1 + LEVEL) / 2) for n in (seeds, _MANY_SEEDS))
    return (
        f" Where the data cannot tell, train more seeds: with {seeds} an interval reaches"
        f" {now:.1f} standard errors of their spread, with {_MANY_SEEDS} it would reach {then:.1f}."
        " Few seeds raise no more false alarms than many, but hide differences that are there."
    )


def _imagined(comparison: Comparison) -> str:
    names = ", ".join(CLASS_NAMES[k] for k in np.flatnonzero(comparison.is_imagined))
    if not names:
        return ""
    return (
        f" No pixel of these frames is truly {names}, though an arm predicts it: left out of every"
        " mean here, for all arms alike, and counted as 0 for that arm in the official mean of its"
        " metrics.json."
    )


def _groups(comparison: Comparison) -> str:
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
                    f"{name} ({_scored(comparison, members)} classes)",
                    f"`{loss}`",
                    percent(comparison.results[comparison.baseline].scores.value[place]),
                    percent(comparison.results[loss].scores.value[place]),
                    _between(difference, place),
                    _probability(p_groups[place - RARE]),
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
        f" {_BY_ITSELF.format('both groups')}"
    )
    return f"{table(titles, rows)}\n\n{note}"


def _scored(comparison: Comparison, members: NDArray[np.bool_]) -> str:
    """How many of these classes there are, and how many of them the frames have."""
    iou = comparison.results[comparison.baseline].scores.value[FIRST_CLASS:]
    scored = int((~np.isnan(iou[members])).sum())
    return str(scored) if scored == members.sum() else f"{scored} of {members.sum()}"


def _classes(comparison: Comparison) -> str:
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
                    f"**{CLASS_NAMES[k]}**" if p < SIGNIFICANT else CLASS_NAMES[k],
                    f"{100 * comparison.share[k]:.2g} %",
                    percent(comparison.results[comparison.baseline].scores.value[place]),
                    percent(result.scores.value[place]),
                    _between(result.difference, place),
                    _probability(p),
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
        parts.append(table(titles, rows))
    note = (
        "Commonest class first. Bold: the difference holds after Holm's correction for all classes."
        f" {_BY_ITSELF.format('all classes')} {NOTHING}: the class occurs in fewer than two frames."
    )
    return "\n\n".join([*parts, note])


def _calibration(comparison: Comparison) -> str:
    rows = []
    for loss, result in comparison.results.items():
        difference = "baseline"
        if result.difference is not None:
            difference = _between(result.difference, CALIBRATION, digits=2)
        pixels, confident, right = result.calibration.sum(axis=0)
        pixels = pixels or np.nan
        rows.append(
            [
                f"`{loss}`",
                percent(result.scores.value[CALIBRATION], digits=2),
                percent(result.deviation[CALIBRATION], digits=2),
                difference,
                percent(confident / pixels),
                percent(right / pixels),
            ]
        )
    titles = ["loss", "calibration error", "deviation over seeds", "difference in points"]
    note = (
        "Expected calibration error in per cent, 15 bins: how far the confidence in the predicted"
        " class is from the share of pixels that are right; lower is better. Confidence over"
        " accuracy is overconfidence."
    )
    return f"{table([*titles, 'confidence', 'accuracy'], rows)}\n\n{note}"


def _budgets(comparison: Comparison) -> str:
    of_losses = means(comparison)
    shown = np.unique(np.linspace(0, len(of_losses) - 1, min(_STEPS_SHOWN, len(of_losses))))
    rows = [
        [str(step), *(percent(value) for value in row)]
        for step, row in of_losses.iloc[shown.astype(int)].iterrows()
    ]
    note = (
        "Validation mIoU in per cent, measured during training on the packed frames: to be compared"
        " within this table only. These curves are not tested: a flip, an early one above all, may"
        " be noise."
    )
    told = [ranking(comparison, loss) for loss in comparison.challengers]
    titles = ["steps", *(f"`{loss}`" for loss in of_losses.columns)]
    return "\n\n".join([table(titles, rows), " ".join([note, *told]).strip()])


def _probability(p: float) -> str:
    return NOTHING if np.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _between(difference: Intervals, place: int, digits: int = 1) -> str:
    value, low, high = (
        points(ends[place], digits=digits)
        for ends in (difference.value, difference.low, difference.high)
    )
    if np.isnan(difference.value[place]):
        return NOTHING
    return f"{value} ({NOTHING if np.isnan(difference.low[place]) else f'{low} to {high}'})"
