"""The part of the ablation's report that asks the gradients why."""

from collections.abc import Callable

import numpy as np

from pipeline.ablation.comparison import Comparison
from pipeline.ablation.gradients import GradientResults, GradientSummary
from pipeline.ablation.verdict import classify_difference
from pipeline.formatting import NOT_AVAILABLE, format_count, format_markdown_table, format_percent

_MEASURES: tuple[tuple[str, Callable[[GradientSummary], float]], ...] = (
    ("steadier from batch to batch", lambda pull: pull.batch_cosine),
    ("better aimed at what is wrong", lambda pull: pull.error_focus),
    ("more of one mind between classes", lambda pull: pull.class_alignment),
)


def format_gradient_section(comparison: Comparison, gradients: GradientResults) -> list[str]:
    """Compose the section's paragraphs."""
    parts = [
        "## Why: whose pixels pull",
        _introduction(gradients),
        _overview(comparison, gradients),
    ]
    parts += [_legend(), "![Share of the gradient per class and layer](gradients.png)"]
    parts += ["Length of the gradient at each group of layers:", _norm_table(gradients)]
    if _compared_losses(comparison):
        parts += [
            "### Are the gradients of cross-entropy nicer?",
            _cross_entropy_section(comparison, gradients),
        ]
    return parts


def _compared_losses(comparison: Comparison) -> list[str]:
    """The losses that cross-entropy was tested against: all others, or the baseline alone."""
    if "ce" not in comparison.results:
        return []
    return comparison.challengers if comparison.baseline == "ce" else [comparison.baseline]


def _introduction(gradients: GradientResults) -> str:
    return (
        "Every loss is measured on the same"
        f" {format_count(gradients.num_frames, 'training frame')}, at the same weights: those before the first"
        f" step and those that each loss ended with ({format_count(gradients.num_seeds, 'seed')}). Void sends no"
        " gradient, so that the gradient is the sum of what the pixels of each class send."
    )


def _overview(comparison: Comparison, gradients: GradientResults) -> str:
    rows = []
    for (weights, loss), pull in gradients.summaries.items():
        layers = pull.rare_layer_share(comparison.is_rare)
        rows.append(
            [
                _format_weights(gradients, weights),
                f"`{loss}`",
                f"{np.sqrt(np.square(pull.gradient_norms).sum()):.3g}",
                format_percent(pull.rare_logit_share(comparison.is_rare)),
                f"{format_percent(layers.min())} to {format_percent(layers.max())}",
                _format_measure(pull.class_alignment),
                _format_measure(pull.error_focus),
                _format_measure(pull.batch_cosine),
            ]
        )
    titles = ["weights", "loss", "length", "rare: scores", "rare: layers"]
    return format_markdown_table([*titles, "agreement", "aim", "steadiness"], rows)


def _legend() -> str:
    return (
        "Rare: the rare classes' share in per cent, of the sum of |dL/ds| at the scores s before"
        " the softmax, and of the lengths of what the classes send to a group of layers (least and"
        " greatest group). Agreement: the length of the whole gradient over the sum of the classes'"
        " lengths, 1 where all pull one way. Aim: how many times as hard a wrongly predicted pixel"
        " pulls as the average one. Steadiness: the cosine between the gradients of two batches."
        " The length by itself says little: Adam divides by the gradient's own scale."
    )


def _norm_table(gradients: GradientResults) -> str:
    rows = [
        [
            _format_weights(gradients, weights),
            f"`{loss}`",
            *(f"{length:.3g}" for length in pull.gradient_norms),
        ]
        for (weights, loss), pull in gradients.summaries.items()
    ]
    return format_markdown_table(["weights", "loss", *gradients.layers], rows)


def _cross_entropy_section(comparison: Comparison, gradients: GradientResults) -> str:
    parts = [
        "The course that this project grew from guessed that cross-entropy wins because its"
        " gradients are nicer. Nicer can mean three things that are measured here, at the start"
        " and, on average, at the trained weights:"
    ]
    for loss in _compared_losses(comparison):
        found = [_compare_measure(gradients, "ce", loss, read) for _, read in _MEASURES]
        lines = [
            f"- {name}, `ce` and `{loss}`: {told}"
            for (name, _), (told, _) in zip(_MEASURES, found, strict=True)
        ]
        wins = [is_more for _, both in found for is_more in both]
        parts += ["\n".join(lines), _conclusion(comparison, loss, wins)]
    parts.append("This describes these batches; it is no test of what causes what.")
    return "\n\n".join(parts)


def _compare_measure(
    gradients: GradientResults, first: str, second: str, measure: Callable[[GradientSummary], float]
) -> tuple[str, list[bool]]:
    """Put one reading in words, and say at the start and when trained if the first has more."""
    places = {"at the start": [gradients.initial_weights], "trained": gradients.trained_weights}
    told, more = [], []
    for when, kinds in places.items():
        base, other = (
            float(np.mean([measure(gradients.summaries[weights, name]) for weights in kinds]))
            for name in (first, second)
        )
        told.append(f"{_format_measure(base)} and {_format_measure(other)} {when}")
        if not np.isnan([base, other]).any():
            more.append(base > other)
    return f"{', '.join(told)}.", more


def _conclusion(comparison: Comparison, loss: str, wins: list[bool]) -> str:
    extent = f"in {sum(wins)} of {len(wins)} comparisons"
    if wins and all(wins):
        extent = f"in all {len(wins)} comparisons"
    if not any(wins):
        extent = f"in none of {len(wins)} comparisons"
    told = f"**`ce`'s gradients are the nicer ones {extent} with `{loss}`'s"
    winner = _winner(comparison, loss)
    if winner is None:
        return (
            f"{told}; as the data cannot tell which of the two is better, nothing is explained.**"
        )
    if winner == loss:
        return f"{told}, and it is `{loss}` that wins: nicer gradients did not decide it.**"
    if all(wins):
        return f"{told}, and `ce` wins, as the guess has it.**"
    if any(wins):
        return f"{told}, and `ce` wins: the guess is a part of it at most.**"
    return f"{told}, and yet `ce` wins: the guess finds no support.**"


def _winner(comparison: Comparison, loss: str) -> str | None:
    """`ce` or its rival, one of them the baseline; None where the data cannot tell."""
    challenger, base = (loss, "ce") if comparison.baseline == "ce" else ("ce", loss)
    kind = classify_difference(comparison.results[challenger])
    return {"better": challenger, "worse": base}.get(kind)


def _format_weights(gradients: GradientResults, weights: str) -> str:
    step = gradients.steps[weights]
    return "before the first step" if step == 0 else f"`{weights}`, step {step}"


def _format_measure(value: float) -> str:
    return NOT_AVAILABLE if np.isnan(value) else f"{value:.2f}"
