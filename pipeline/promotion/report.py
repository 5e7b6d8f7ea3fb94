"""The report of the gate, in Markdown: the decision, its reason, and the figures class by class."""

import numpy as np

from pipeline.formatting import (
    NOT_AVAILABLE,
    format_count,
    format_markdown_table,
    format_percent,
    format_points,
)
from pipeline.params.promote import Promote
from pipeline.promotion.gate import FIRST_CLASS, MIOU, Decision, PairedScores, find_lost_classes
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
    if decision.scores is not None:
        parts += [_describe_rules(decision.scores, rules), _class_table(decision.scores, rules)]
    return "\n\n".join(parts) + "\n"


def _describe_rules(scores: PairedScores, rules: Promote) -> str:
    return (
        f"Measured by `{scores.protocol}`: {format_count(scores.num_frames, 'frame')}, the same for"
        " both. Intervals are at 95 %, from a paired bootstrap over frames: they cover the choice"
        " of frames. A challenger is promoted if the interval of the difference in mIoU lies above"
        f" 0 and no class loses more than {format_points(rules.max_class_loss, sign=False)} points of IoU."
    )


def _class_table(scores: PairedScores, rules: Promote) -> str:
    change = scores.difference.value[FIRST_CLASS:]
    lost = set(find_lost_classes(scores, rules.max_class_loss))
    order = [int(k) for k in np.argsort(change, kind="stable") if not np.isnan(change[k])]
    rows = [_row("**mIoU**", scores, MIOU, digits=2, note="")]
    rows += [
        _row(CLASS_NAMES[k], scores, FIRST_CLASS + k, note="too much" if k in lost else "")
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
    return f"{format_markdown_table(titles, rows)}\n\n{note}"


def _row(name: str, scores: PairedScores, index: int, *, digits: int = 1, note: str) -> list[str]:
    difference = scores.difference
    low, high = difference.low[index], difference.high[index]
    between = f"{format_points(low, digits=digits)} to {format_points(high, digits=digits)}"
    return [
        name,
        format_percent(scores.champion[index]),
        format_percent(scores.challenger[index]),
        format_points(difference.value[index], digits=digits),
        NOT_AVAILABLE if np.isnan(low) else between,
        note,
    ]
