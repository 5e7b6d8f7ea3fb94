"""The report of an ablation, in Markdown: the verdict, its tables and its figures."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from pipeline.bootstrap import Intervals
from pipeline.comparison import ALL, FIRST_CLASS, FREQUENT, RARE, Comparison
from pipeline.verdict import SIGNIFICANT, verdict
from pipeline.wording import NOTHING, count, percent, points
from segformer.cityscapes import CLASS_NAMES

_STEPS_SHOWN = 10
_STEPS_NAMED = 6


def write_report(comparison: Comparison) -> str:
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
    parts += ["## During training", _budgets(comparison), "![mIoU against steps](curves.png)"]
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
    return (
        f"All arms: {comparison.steps} training steps, {count(comparison.num_frames, 'frame')},"
        f" seed{'s' if len(comparison.seeds) > 1 else ''} {seeds}; mIoU in per cent, the mean over"
        " seeds. Intervals join the bootstrap over frames with the spread between seeds, and are"
        " wide where there are few of either. Differences are paired, on the same frames and seeds,"
        " and so are sharper than the intervals of the arms suggest."
    )


def _groups(comparison: Comparison) -> str:
    rows = []
    for name, place, members in (
        ("rare", RARE, comparison.is_rare),
        ("frequent", FREQUENT, ~comparison.is_rare),
    ):
        for loss in comparison.challengers:
            difference = comparison.results[loss].difference
            assert difference is not None
            rows.append(
                [
                    f"{name} ({members.sum()} classes)",
                    f"`{loss}`",
                    percent(comparison.results[comparison.baseline].scores.value[place]),
                    percent(comparison.results[loss].scores.value[place]),
                    _between(difference, place),
                ]
            )
    titles = [
        "classes",
        "loss",
        f"mIoU `{comparison.baseline}`",
        "mIoU of the loss",
        "difference in points",
    ]
    rare = [CLASS_NAMES[k] for k in np.flatnonzero(comparison.is_rare)]
    note = f"Rare: less than the median share of the labelled training pixels ({', '.join(rare)})."
    return f"{table(titles, rows)}\n\n{note}"


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
                    NOTHING if np.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001",
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
        f" {NOTHING}: the class occurs in fewer than two frames."
    )
    return "\n\n".join([*parts, note])


def _budgets(comparison: Comparison) -> str:
    means = {loss: result.validation.mean(axis=1) for loss, result in comparison.results.items()}
    steps = sorted(set().union(*(mean.index for mean in means.values())))
    shown = (
        [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, _STEPS_SHOWN).astype(int))]
        if steps
        else []
    )
    rows = [
        [str(step), *(percent(mean.get(step, float("nan"))) for mean in means.values())]
        for step in shown
    ]
    note = (
        "Validation mIoU in per cent, measured during training on the packed frames: to be compared"
        " within this table only."
    )
    flips = [
        _flips(comparison.baseline, loss, means[loss] - means[comparison.baseline])
        for loss in comparison.challengers
    ]
    return "\n\n".join(
        [table(["steps", *(f"`{loss}`" for loss in means)], rows), " ".join([note, *flips])]
    )


def _flips(baseline: str, loss: str, lead: "pd.Series[float]") -> str:
    """Say whether the loss was ahead of the baseline at some budgets and not at others."""
    known = lead.dropna()
    ahead = known > 0
    if known.empty:
        return ""
    last = "ahead of" if ahead.iloc[-1] else "not ahead of"
    other = [str(step) for step in known.index[ahead != ahead.iloc[-1]]]
    if len(other) > _STEPS_NAMED:
        other = [*other[:_STEPS_NAMED], f"and {len(other) - _STEPS_NAMED} more"]
    if not other:
        return f"`{loss}` is {last} `{baseline}` at every one of these steps."
    return (
        f"The ranking depends on the budget: `{loss}` is {last} `{baseline}` at the end, and it was"
        f" the other way round at step {', '.join(other)}."
    )


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is aligned left, the others right."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _between(difference: Intervals, place: int, digits: int = 1) -> str:
    value, low, high = (
        points(ends[place], digits=digits)
        for ends in (difference.value, difference.low, difference.high)
    )
    if np.isnan(difference.value[place]):
        return NOTHING
    return f"{value} ({NOTHING if np.isnan(difference.low[place]) else f'{low} to {high}'})"
