"""The ranking of losses by validation mIoU at each step of training, and where it changes."""

import numpy as np
import pandas as pd

from pipeline.ablation.comparison import Comparison

_MAX_STEPS_LISTED = 6


def mean_validation_miou(comparison: Comparison) -> pd.DataFrame:
    """Return validation mIoU, means over seeds: a row per step, a column per loss."""
    columns = {loss: result.validation.mean(axis=1) for loss, result in comparison.results.items()}
    return pd.DataFrame(columns).sort_index()


def find_rank_changes(lead: "pd.Series[float]") -> list[int]:
    """Return the steps at which the ranking changes, each the first with the new leader.

    Args:
        lead: of one loss over another, by step; a tie leaves the ranking as it is.
    """
    signs = np.sign(lead.dropna())
    signs = signs[signs != 0]
    changes = signs.diff().fillna(0) != 0
    return [int(step) for step in signs.index[changes]]


def find_last_change(comparison: Comparison, loss: str) -> int | None:
    """Return the step of the last change of ranking between a loss and the baseline, if any."""
    steps = find_rank_changes(_margins_by_seed(comparison, loss).mean(axis=1))
    return steps[-1] if steps else None


def describe_ranking(comparison: Comparison, loss: str) -> str:
    """Describe in a sentence how a loss and the baseline are ranked, and where that changes.

    Returns:
        The sentence; empty if there was no validation.
    """
    baseline = comparison.baseline
    margins = _margins_by_seed(comparison, loss)
    lead = margins.mean(axis=1)
    decided = lead[lead != 0]
    if lead.empty:
        return ""
    if decided.empty:
        return f"`{loss}` and `{baseline}` are equal at every validation step."
    steps, last = find_rank_changes(lead), int(decided.index[-1])
    at_last = f"{_format_side(lead[last])} `{baseline}`{_format_agreement(margins, last)}"
    if not steps:
        return f"The ranking of the means never changes: at step {last} `{loss}` is {at_last}."
    before = int(decided[decided.index < steps[-1]].index[-1])
    at_before = f"{_format_side(lead[before])} `{baseline}`{_format_agreement(margins, before)}"
    earlier = f" Earlier changes: {_format_steps(steps[:-1])}." if steps[:-1] else ""
    return (
        f"The ranking of the means changes at step {steps[-1]}: at step {before} `{loss}` is"
        f" {at_before}, at step {last} {at_last}.{earlier}"
    )


def _margins_by_seed(comparison: Comparison, loss: str) -> pd.DataFrame:
    """Validation mIoU of a loss minus the baseline's: a row per step, a column per seed."""
    challenger, baseline = (
        comparison.results[name].validation for name in (loss, comparison.baseline)
    )
    return pd.DataFrame(
        challenger.to_numpy() - baseline.to_numpy(), index=challenger.index
    ).dropna()


def _format_side(lead: float) -> str:
    return "ahead of" if lead > 0 else "behind"


def _format_agreement(margins: pd.DataFrame, step: int) -> str:
    """The number of seeds that agree with their mean; empty with one seed."""
    signs = np.sign(margins.loc[step].to_numpy())
    if len(signs) == 1:
        return ""
    agreeing = int((signs == np.sign(margins.loc[step].mean())).sum())
    return f" (in {agreeing} of {len(signs)} seeds)"


def _format_steps(steps: list[int]) -> str:
    items = [f"step {step}" for step in steps[:_MAX_STEPS_LISTED]]
    if len(steps) > _MAX_STEPS_LISTED:
        items.append(f"and {len(steps) - _MAX_STEPS_LISTED} more")
    return ", ".join(items)
