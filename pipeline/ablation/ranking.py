"""Losses against the number of steps: who leads at which, and where the ranking flips."""

import numpy as np
import pandas as pd

from pipeline.ablation.comparison import Comparison


def mean_validation_miou(comparison: Comparison) -> pd.DataFrame:
    """Validation mIoU during training, means over seeds: a row per step, a column per loss."""
    columns = {loss: result.validation.mean(axis=1) for loss, result in comparison.results.items()}
    return pd.DataFrame(columns).sort_index()


def find_rank_changes(lead: "pd.Series[float]") -> list[int]:
    """The steps at which the lead changes hands, each the first with the new leader.

    Args:
        lead: of one loss over another, by step; a tie leaves the lead where it was.
    """
    ahead = np.sign(lead.dropna())
    ahead = ahead[ahead != 0]
    changes = ahead.diff().fillna(0) != 0
    return [int(step) for step in ahead.index[changes]]


def find_last_change(comparison: Comparison, loss: str) -> int | None:
    """The step from which on a loss and the baseline are ranked as they are at the end."""
    steps = find_rank_changes(_margins_by_seed(comparison, loss).mean(axis=1))
    return steps[-1] if steps else None


def describe_ranking(comparison: Comparison, loss: str) -> str:
    """Say in a sentence how a loss and the baseline are ranked, and where that flips.

    Returns:
        The sentence; empty where nothing was validated.
    """
    baseline = comparison.baseline
    of_seeds = _margins_by_seed(comparison, loss)
    lead = of_seeds.mean(axis=1)
    known = lead[lead != 0]
    if lead.empty:
        return ""
    if known.empty:
        return f"`{loss}` and `{baseline}` are level at every one of these steps."
    steps, last = find_rank_changes(lead), int(known.index[-1])
    if not steps:
        return (
            f"The ranking of the means never flips: at step {last} `{loss}` is"
            f" {_format_side(lead[last])} `{baseline}`{_format_agreement(of_seeds, last)}."
        )
    before = int(known[known.index < steps[-1]].index[-1])
    earlier = f" Earlier flips: {_format_steps(steps[:-1])}." if steps[:-1] else ""
    return (
        f"The ranking of the means flips at step {steps[-1]}: at step {before} `{loss}` is"
        f" {_format_side(lead[before])} `{baseline}`{_format_agreement(of_seeds, before)}, at step {last}"
        f" {_format_side(lead[last])} it{_format_agreement(of_seeds, last)}.{earlier}"
    )


def _margins_by_seed(comparison: Comparison, loss: str) -> pd.DataFrame:
    """Validation mIoU of a loss less the baseline's: a row per step, a column per seed."""
    mine, base = (comparison.results[name].validation for name in (loss, comparison.baseline))
    return pd.DataFrame(mine.to_numpy() - base.to_numpy(), index=mine.index).dropna()


def _format_side(lead: float) -> str:
    return "ahead of" if lead > 0 else "behind"


def _format_agreement(margins: pd.DataFrame, step: int) -> str:
    """How many seeds lead as their mean does; nothing where there is one."""
    signs = np.sign(margins.loc[step].to_numpy())
    if len(signs) == 1:
        return ""
    agreeing = int((signs == np.sign(margins.loc[step].mean())).sum())
    return f" (in {agreeing} of {len(signs)} seeds)"


_MAX_STEPS_LISTED = 6


def _format_steps(steps: list[int]) -> str:
    named = [f"step {step}" for step in steps[:_MAX_STEPS_LISTED]]
    if len(steps) > _MAX_STEPS_LISTED:
        named.append(f"and {len(steps) - _MAX_STEPS_LISTED} more")
    return ", ".join(named)
