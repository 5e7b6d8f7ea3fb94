"""The section of the ablation's report on gradients: shares by class and their quality."""

from collections.abc import Callable

import numpy as np

from pipeline.ablation.comparison import Comparison
from pipeline.ablation.gradients import GradientResults, GradientSummary
from pipeline.ablation.verdict import classify_difference
from pipeline.formatting import NOT_AVAILABLE, format_count, format_markdown_table, format_percent

_QUALITY_MEASURES: tuple[tuple[str, Callable[[GradientSummary], float]], ...] = (
    ("batch cosine", lambda summary: summary.batch_cosine),
    ("error focus", lambda summary: summary.error_focus),
    ("class alignment", lambda summary: summary.class_alignment),
)


def format_gradient_section(comparison: Comparison, gradients: GradientResults) -> list[str]:
    """Compose the section's paragraphs."""
    parts = [
        "## Gradient by class",
        _introduction(gradients),
        _overview_table(comparison, gradients),
        _overview_legend(),
        "![Share of the gradient by class and layer](gradients.png)",
        "L2 norm of the gradient at each group of layers:",
        _norm_table(gradients),
    ]
    if _compared_losses(comparison):
        parts += [
            "### Do better gradients explain the result of cross-entropy?",
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
        f" {format_count(gradients.num_frames, 'training frame')} and at the same weights: the"
        " initial weights and the weights at the end of each loss's training"
        f" ({format_count(gradients.num_seeds, 'seed')}). Void pixels have no gradient, so the"
        " total gradient is the sum of the classes' gradients."
    )


def _overview_table(comparison: Comparison, gradients: GradientResults) -> str:
    rows = []
    for (weights, loss), summary in gradients.summaries.items():
        layers = summary.rare_layer_share(comparison.is_rare)
        rows.append(
            [
                _format_weights(gradients, weights),
                f"`{loss}`",
                f"{np.sqrt(np.square(summary.gradient_norms).sum()):.3g}",
                format_percent(summary.rare_logit_share(comparison.is_rare)),
                f"{format_percent(layers.min())} to {format_percent(layers.max())}",
                _format_measure(summary.class_alignment),
                _format_measure(summary.error_focus),
                _format_measure(summary.batch_cosine),
            ]
        )
    headers = [
        "weights",
        "loss",
        "gradient norm",
        "rare classes, logits (%)",
        "rare classes, layers (%)",
        "class alignment",
        "error focus",
        "batch cosine",
    ]
    return format_markdown_table(headers, rows)


def _overview_legend() -> str:
    return (
        "Rare classes: their share of the sum of |dL/ds| over the logits s, and of the summed L2"
        " norms of the classes' gradients at a group of layers (smallest and largest group). Class"
        " alignment: the norm of the total gradient divided by the sum of the classes' norms; 1 if"
        " all classes' gradients point the same way. Error focus: the mean |dL/ds| of wrongly"
        " predicted pixels divided by the mean of all pixels. Batch cosine: the cosine similarity"
        " of the gradients of two batches. The norm alone does not give the size of a step: Adam"
        " divides by the gradient's own scale."
    )


def _norm_table(gradients: GradientResults) -> str:
    rows = [
        [
            _format_weights(gradients, weights),
            f"`{loss}`",
            *(f"{norm:.3g}" for norm in summary.gradient_norms),
        ]
        for (weights, loss), summary in gradients.summaries.items()
    ]
    return format_markdown_table(["weights", "loss", *gradients.layers], rows)


def _cross_entropy_section(comparison: Comparison, gradients: GradientResults) -> str:
    parts = [
        "The course that this project started from assumes that cross-entropy wins because its"
        " gradients are better. Three measures of gradient quality, higher is better, at the"
        " initial weights and averaged over the trained weights:"
    ]
    for loss in _compared_losses(comparison):
        comparisons = [
            _compare_measure(gradients, "ce", loss, measure) for _, measure in _QUALITY_MEASURES
        ]
        lines = [
            f"- {name}: {values}"
            for (name, _), (values, _) in zip(_QUALITY_MEASURES, comparisons, strict=True)
        ]
        wins = [is_higher for _, outcomes in comparisons for is_higher in outcomes]
        parts += ["\n".join(lines), _conclusion(comparison, loss, wins)]
    parts.append("These values describe these batches; they do not test cause and effect.")
    return "\n\n".join(parts)


def _compare_measure(
    gradients: GradientResults, first: str, second: str, measure: Callable[[GradientSummary], float]
) -> tuple[str, list[bool]]:
    """Compare a measure of two losses at the initial and at the trained weights.

    Returns:
        The values in words, and for each kind of weights whether the first loss has the higher
        value; nothing where a value is undefined.
    """
    kinds = {
        "initial weights": [gradients.initial_weights],
        "trained weights": gradients.trained_weights,
    }
    phrases, outcomes = [], []
    for kind, names in kinds.items():
        first_value, second_value = (
            float(np.mean([measure(gradients.summaries[weights, loss]) for weights in names]))
            for loss in (first, second)
        )
        phrases.append(
            f"`{first}` {_format_measure(first_value)}, `{second}` {_format_measure(second_value)}"
            f" at the {kind}"
        )
        if not np.isnan([first_value, second_value]).any():
            outcomes.append(first_value > second_value)
    return f"{'; '.join(phrases)}.", outcomes


def _conclusion(comparison: Comparison, loss: str, wins: list[bool]) -> str:
    count = f"{sum(wins)} of {len(wins)}"
    values = f"**`ce` has the higher value in {count} comparisons with `{loss}`"
    winner = _winner(comparison, loss)
    if winner is None:
        return (
            f"{values}; the difference in mIoU is inconclusive, so there is nothing to explain.**"
        )
    if winner == loss:
        return f"{values}, but `{loss}` wins: gradient quality does not decide the result.**"
    if all(wins):
        return f"{values}, and `ce` wins: this agrees with the assumption.**"
    if any(wins):
        return f"{values}, and `ce` wins: this supports the assumption in part at most.**"
    return f"{values}, but `ce` wins: this does not support the assumption.**"


def _winner(comparison: Comparison, loss: str) -> str | None:
    """`ce` or the other loss, one of them the baseline; None if the result is inconclusive."""
    challenger, baseline = (loss, "ce") if comparison.baseline == "ce" else ("ce", loss)
    outcome = classify_difference(comparison.results[challenger])
    return {"better": challenger, "worse": baseline}.get(outcome)


def _format_weights(gradients: GradientResults, weights: str) -> str:
    step = gradients.steps[weights]
    return "initial weights" if step == 0 else f"`{weights}`, step {step}"


def _format_measure(value: float) -> str:
    return NOT_AVAILABLE if np.isnan(value) else f"{value:.2f}"
