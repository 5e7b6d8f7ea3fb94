"""The report of the gate in Markdown: the decision, its reason and the scores by class."""

import numpy as np

from pipeline.formatting import (
    NOT_AVAILABLE,
    format_count,
    format_markdown_table,
    format_percent,
    format_points,
)
from pipeline.params.promote import Promote
from pipeline.promotion.gate import Decision, PairedScore, PairedScores, find_regressed_classes
from segformer.cityscapes import CLASS_NAMES


def write_report(decision: Decision, rules: Promote, *, challenger: str, champion: str) -> str:
    """Compose the report.

    Args:
        decision: of the gate.
        rules: the rules of the decision.
        challenger: its name for people, `ce-0 (run 6b3b0c6e)`.
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
        f"Protocol: `{scores.protocol}`, on {format_count(scores.num_frames, 'frame')}, the same"
        " for both. The 95 % intervals come from a paired bootstrap over frames; they cover the"
        " choice of frames only. A challenger is promoted if the interval of the difference in mIoU"
        " lies above 0 and no class loses more than"
        f" {format_points(rules.max_class_loss, sign=False)} points of IoU."
    )


def _class_table(scores: PairedScores, rules: Promote) -> str:
    differences = np.array([score.difference for score in scores.class_iou])
    lost = set(find_regressed_classes(scores, rules.max_class_loss))
    order = [int(k) for k in np.argsort(differences, kind="stable") if not np.isnan(differences[k])]
    rows = [_row("**mIoU**", scores.miou, digits=2)]
    rows += [
        _row(CLASS_NAMES[k], scores.class_iou[k], note="loss above the limit" if k in lost else "")
        for k in order
    ]
    headers = [
        "IoU (%)",
        "champion",
        "challenger",
        "difference in points",
        "95 % interval",
        "note",
    ]
    absent = [CLASS_NAMES[k] for k in np.flatnonzero(np.isnan(differences))]
    note = "Sorted by difference, the greatest loss first."
    if absent:
        note += (
            " Absent from the labels and from at least one model's predictions:"
            f" {', '.join(absent)}."
        )
    return f"{format_markdown_table(headers, rows)}\n\n{note}"


def _row(name: str, score: PairedScore, *, digits: int = 1, note: str = "") -> list[str]:
    low, high = (format_points(end, digits=digits) for end in (score.low, score.high))
    return [
        name,
        format_percent(score.champion),
        format_percent(score.challenger),
        format_points(score.difference, digits=digits),
        NOT_AVAILABLE if np.isnan(score.low) else f"{low} to {high}",
        note,
    ]
