"""The part of the ablation's report that asks the gradients why."""

from collections.abc import Callable

import numpy as np

from pipeline.comparison import Comparison
from pipeline.markdown import table
from pipeline.pulls import Pull, Pulls
from pipeline.verdict import outcome
from pipeline.wording import NOTHING, count, percent

_READINGS: tuple[tuple[str, Callable[[Pull], float]], ...] = (
    ("steadier from batch to batch", lambda pull: pull.steadiness),
    ("better aimed at what is wrong", lambda pull: pull.aim),
    ("more of one mind between classes", lambda pull: pull.agreement),
)


def write_pulls(comparison: Comparison, pulls: Pulls) -> list[str]:
    """Compose the section's paragraphs."""
    parts = ["## Why: whose pixels pull", _introduction(pulls), _overview(comparison, pulls)]
    parts += [_legend(), "![Share of the gradient per class and layer](gradients.png)"]
    parts += ["Length of the gradient at each group of layers:", _lengths(pulls)]
    if _rivals(comparison):
        parts += ["### Are the gradients of cross-entropy nicer?", _guess(comparison, pulls)]
    return parts


def _rivals(comparison: Comparison) -> list[str]:
    """The losses that cross-entropy was tested against: all others, or the baseline alone."""
    if "ce" not in comparison.results:
        return []
    return comparison.challengers if comparison.baseline == "ce" else [comparison.baseline]


def _introduction(pulls: Pulls) -> str:
    return (
        "Every loss is measured on the same"
        f" {count(pulls.frames, 'training frame')}, at the same weights: those before the first"
        f" step and those that each loss ended with ({count(pulls.seeds, 'seed')}). Void sends no"
        " gradient, so that the gradient is the sum of what the pixels of each class send."
    )


def _overview(comparison: Comparison, pulls: Pulls) -> str:
    rows = []
    for (weights, loss), pull in pulls.of.items():
        layers = pull.rare_at_layers(comparison.is_rare)
        rows.append(
            [
                _place(pulls, weights),
                f"`{loss}`",
                f"{np.sqrt(np.square(pull.lengths).sum()):.3g}",
                percent(pull.rare(comparison.is_rare)),
                f"{percent(layers.min())} to {percent(layers.max())}",
                _written(pull.agreement),
                _written(pull.aim),
                _written(pull.steadiness),
            ]
        )
    titles = ["weights", "loss", "length", "rare: scores", "rare: layers"]
    return table([*titles, "agreement", "aim", "steadiness"], rows)


def _legend() -> str:
    return (
        "Rare: the rare classes' share in per cent, of the sum of |dL/ds| at the scores s before"
        " the softmax, and of the lengths of what the classes send to a group of layers (least and"
        " greatest group). Agreement: the length of the whole gradient over the sum of the classes'"
        " lengths, 1 where all pull one way. Aim: how many times as hard a wrongly predicted pixel"
        " pulls as the average one. Steadiness: the cosine between the gradients of two batches."
        " The length by itself says little: Adam divides by the gradient's own scale."
    )


def _lengths(pulls: Pulls) -> str:
    rows = [
        [_place(pulls, weights), f"`{loss}`", *(f"{length:.3g}" for length in pull.lengths)]
        for (weights, loss), pull in pulls.of.items()
    ]
    return table(["weights", "loss", *pulls.layers], rows)


def _guess(comparison: Comparison, pulls: Pulls) -> str:
    parts = [
        "The course that this project grew from guessed that cross-entropy wins because its"
        " gradients are nicer. Nicer can mean three things that are measured here, at the start"
        " and, on average, at the trained weights:"
    ]
    for loss in _rivals(comparison):
        found = [_compared(pulls, "ce", loss, read) for _, read in _READINGS]
        lines = [
            f"- {name}, `ce` and `{loss}`: {told}"
            for (name, _), (told, _) in zip(_READINGS, found, strict=True)
        ]
        wins = [is_more for _, both in found for is_more in both]
        parts += ["\n".join(lines), _conclusion(comparison, loss, wins)]
    parts.append("This describes these batches; it is no test of what causes what.")
    return "\n\n".join(parts)


def _compared(
    pulls: Pulls, first: str, second: str, read: Callable[[Pull], float]
) -> tuple[str, list[bool]]:
    """Put one reading in words, and say at the start and when trained if the first has more."""
    places = {"at the start": [pulls.start], "trained": pulls.trained}
    told, more = [], []
    for when, kinds in places.items():
        base, other = (
            float(np.mean([read(pulls.of[weights, name]) for weights in kinds]))
            for name in (first, second)
        )
        told.append(f"{_written(base)} and {_written(other)} {when}")
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
    kind = outcome(comparison.results[challenger])
    return {"better": challenger, "worse": base}.get(kind)


def _place(pulls: Pulls, weights: str) -> str:
    step = pulls.steps[weights]
    return "before the first step" if step == 0 else f"`{weights}`, step {step}"


def _written(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{value:.2f}"
