"""The report of the gate, in Markdown: the decision, its reason, and the figures class by class."""

import numpy as np

from pipeline.gate import ALL, FIRST_CLASS, Contest, Decision, Promote, lost_classes
from pipeline.markdown import table
from pipeline.wording import NOTHING, count, percent, points
from segformer.cityscapes import CLASS_NAMES


def write_report(decision: Decision, rules: Promote, *, challenger: str, champion: str) -> str:
    """Compose the report.

    Args:
        decision: of the gate.
        rules: by which it was made.
        challenger: what people call it, `ce-0 (run 6b3b0c6e)`.
        champion: likewise, `version 3 (dice-1)`, or `none`.
    """
    verdict = "promoted" if decision.is_promoted else "not promoted"
    parts = [
        f"# Gate: {challenger} is {verdict}",
        f"**{decision.outcome.capitalize()}: {decision.reason}.**",
        f"Challenger: {challenger}. Champion: {champion}.",
    ]
    if decision.contest is not None:
        parts += [_rules(decision.contest, rules), _classes(decision.contest, rules)]
    return "\n\n".join(parts) + "\n"


def _rules(contest: Contest, rules: Promote) -> str:
    return (
        f"Measured by `{contest.protocol}`: {count(contest.num_frames, 'frame')}, the same for"
        " both. Intervals are at 95 %, from a paired bootstrap over frames: they cover the choice"
        " of frames. A challenger is promoted if the interval of the difference in mIoU lies above"
        f" 0 and no class loses more than {points(rules.max_class_loss, sign=False)} points of IoU."
    )


def _classes(contest: Contest, rules: Promote) -> str:
    change = contest.difference.value[FIRST_CLASS:]
    lost = set(lost_classes(contest, rules.max_class_loss))
    order = [int(k) for k in np.argsort(change, kind="stable") if not np.isnan(change[k])]
    rows = [_row("**mIoU**", contest, ALL, digits=2, note="")]
    rows += [
        _row(CLASS_NAMES[k], contest, FIRST_CLASS + k, note="too much" if k in lost else "")
        for k in order
    ]
    titles = [
        "IoU in per cent",
        "champion",
        "challenger",
        "difference in points",
        "interval",
        "note",
    ]
    absent = [CLASS_NAMES[k] for k in np.flatnonzero(np.isnan(change))]
    note = "Greatest loss first."
    if absent:
        note += f" In neither truth nor both predictions: {', '.join(absent)}."
    return f"{table(titles, rows)}\n\n{note}"


def _row(name: str, contest: Contest, place: int, *, digits: int = 1, note: str) -> list[str]:
    difference = contest.difference
    low, high = difference.low[place], difference.high[place]
    between = f"{points(low, digits=digits)} to {points(high, digits=digits)}"
    return [
        name,
        percent(contest.champion[place]),
        percent(contest.challenger[place]),
        points(difference.value[place], digits=digits),
        NOTHING if np.isnan(low) else between,
        note,
    ]
