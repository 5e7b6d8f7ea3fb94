"""The report of the head portraits: findings in sentences, the strongest head of each class."""

from collections.abc import Mapping

import numpy as np

from pipeline.explain.portraits.measurements import HeadPortraits, uniform_distance
from pipeline.explain.portraits.tables import collect_metrics, group_by_stage
from pipeline.formatting import NOT_AVAILABLE, format_count, format_markdown_table, format_percent
from segformer.cityscapes import CLASS_NAMES

_NUM_FINDINGS = 5


def summarize(portraits: HeadPortraits, arm: str) -> str:
    """Return the main finding in a sentence."""
    findings = find_strongest(portraits)
    if not findings:
        return f"{arm}: no attention head attends more to any class than uniform attention"
    return f"{arm}: {_describe_pair(portraits, *findings[0])}"


def format_report(
    portraits: HeadPortraits, *, arm: str, protocol: str, walls: Mapping[str, str], query: str
) -> str:
    """Compose explain.md.

    Args:
        portraits: of all heads.
        arm: the name of the model.
        protocol: of its evaluation.
        walls: titles of the files in `walls/`, by name.
        query: the query of the walls, `class:person`.
    """
    parts = [
        f"# Attention heads of {arm}",
        f"**{summarize(portraits, arm)}.**",
        f"The best arm by mIoU, on {format_count(portraits.num_frames, 'frame')}; protocol of its"
        f" evaluation: `{protocol}`.",
        "## Classes",
        _classes_section(portraits),
        "![Lift by attention head and class](lift.png)",
        "The strongest head of each class, by the lower end of the interval:",
        _class_table(portraits),
        _legend(),
        "## Distance and entropy",
        _reach_section(portraits),
        "![Distance and entropy of the attention heads](reach.png)",
    ]
    return "\n\n".join([*parts, *_walls_section(walls, query)]) + "\n"


def find_strongest(portraits: HeadPortraits) -> list[tuple[int, int]]:
    """Return the pairs of head and class that attend most, by the lower ends of their intervals.

    Only pairs with a lift above 1 after Holm's correction, one for each class: the heads that
    attend to a frequent class would fill the list. The lower end is at most the estimate, so that
    a class in two or three frames does not come first by chance.
    """
    is_above = portraits.is_significant & (portraits.lift.value > 1)
    low = np.where(is_above, portraits.lift.low, -np.inf)
    best = low.argmax(axis=0)  # (k,)
    order = np.argsort(-low.max(axis=0), kind="stable")
    return [(int(best[k]), int(k)) for k in order if np.isfinite(low[best[k], k])]


def _describe_pair(portraits: HeadPortraits, head: int, train_id: int) -> str:
    lift, low, high = (
        values[head, train_id]
        for values in (portraits.lift.value, portraits.lift.low, portraits.lift.high)
    )
    sentence = (
        f"{portraits.heads[head]} attends to {CLASS_NAMES[train_id]} {lift:.1f} times as much as"
        f" uniform attention (95 % interval {low:.1f} to {high:.1f})"
    )
    position = portraits.position_lift[head, train_id]
    if np.isnan(position):
        return sentence
    return f"{sentence}; with the labels of other frames, {position:.1f} times"


def _classes_section(portraits: HeadPortraits) -> str:
    metrics = collect_metrics(portraits)
    above, below, pairs = (metrics[key] for key in ("above_uniform", "below_uniform", "pairs"))
    counts = (
        f"Of {pairs} pairs of a head and a class, {above} have a lift above 1 and {below} one below"
        " (p < 0.05 after Holm's correction for all pairs)."
    )
    findings = find_strongest(portraits)[:_NUM_FINDINGS]
    if not findings:
        return counts
    sentences = [_describe_pair(portraits, *pair) for pair in findings]
    return "\n".join([counts, "", *(f"- {text[0].upper()}{text[1:]}." for text in sentences)])


def _class_table(portraits: HeadPortraits) -> str:
    strongest = {train_id: head for head, train_id in find_strongest(portraits)}
    rows = []
    for k in np.flatnonzero(portraits.key_share > 0).tolist():
        row = [CLASS_NAMES[k], format_percent(portraits.key_share[k])]
        if k in strongest:
            head = strongest[k]
            row += [
                str(portraits.heads[head]),
                f"{portraits.lift.value[head, k]:.2f}",
                f"{portraits.lift.low[head, k]:.2f} to {portraits.lift.high[head, k]:.2f}",
                _format_lift(portraits.position_lift[head, k]),
                str(portraits.num_class_frames[head, k]),
            ]
        else:
            num_frames = str(portraits.num_class_frames[:, k].max())
            row += ["none above uniform", *[NOT_AVAILABLE] * 3, num_frames]
        rows.append(row)
    headers = ["class", "keys (%)", "head", "lift", "95 % interval", "other labels", "frames"]
    return format_markdown_table(headers, rows)


def _legend() -> str:
    return (
        "Lift: the share of a head's attention that lands on a class, mean over all queries and"
        " frames, divided by the class's share of the keys; uniform attention has 1. Other labels:"
        " the lift of the same attention on the labels of the other frames; it stays high where a"
        " head attends to a place, such as the top of the picture, whatever stands there."
        " Intervals cover the choice of frames, not the training, and each holds by itself: the"
        " largest of many lifts is somewhat too large. Stages, blocks and heads count from 0."
    )


def _reach_section(portraits: HeadPortraits) -> str:
    distance, entropy = portraits.distance.value, portraits.entropy.value
    near, far, narrow = int(distance.argmin()), int(distance.argmax()), int(entropy.argmin())
    uniform = uniform_distance(portraits.image_size)
    stages = [
        f"stage {stage}: {distance[rows].mean():.2f} and {entropy[rows].mean():.2f}"
        for stage, rows in group_by_stage(portraits.heads).items()
    ]
    return (
        f"The mean distance from query to key is {distance[near]:.2f} image widths"
        f" ({portraits.heads[near]}) to {distance[far]:.2f} ({portraits.heads[far]}); uniform"
        f" attention has {uniform:.2f}. The entropy relative to uniform attention is smallest,"
        f" {entropy[narrow]:.2f}, in {portraits.heads[narrow]}. Mean distance and entropy of the"
        f" heads, {'; '.join(stages)}."
    )


def _walls_section(walls: Mapping[str, str], query: str) -> list[str]:
    heading = f"## Maps of `{query}`"
    if not walls:
        return [
            heading,
            "No measured frame has a pixel of this class in a key, or `explain.walls` is 0.",
        ]
    legend = (
        "How strongly each place attends to the pixels of the class, as a multiple of uniform"
        " attention; the mean of a panel is the head's lift in this frame."
    )
    return [heading, legend, *(f"![{title}](walls/{name})" for name, title in walls.items())]


def _format_lift(value: float) -> str:
    return NOT_AVAILABLE if np.isnan(value) else f"{value:.2f}"
