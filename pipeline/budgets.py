"""Losses against the number of steps: who leads at which, and where the ranking flips."""

import numpy as np
import pandas as pd

from pipeline.comparison import Comparison


def means(comparison: Comparison) -> pd.DataFrame:
    """Validation mIoU during training, means over seeds: a row per step, a column per loss."""
    columns = {loss: result.validation.mean(axis=1) for loss, result in comparison.results.items()}
    return pd.DataFrame(columns).sort_index()


def flips(lead: "pd.Series[float]") -> list[int]:
    """The steps at which the lead changes hands, each the first with the new leader.

    Args:
        lead: of one loss over another, by step; a tie leaves the lead where it was.
    """
    ahead = np.sign(lead.dropna())
    ahead = ahead[ahead != 0]
    changes = ahead.diff().fillna(0) != 0
    return [int(step) for step in ahead.index[changes]]


def last_flip(comparison: Comparison, loss: str) -> int | None:
    """The step from which on a loss and the baseline are ranked as they are at the end."""
    of_losses = means(comparison)
    steps = flips(of_losses[loss] - of_losses[comparison.baseline])
    return steps[-1] if steps else None


def ranking(comparison: Comparison, loss: str) -> str:
    """Say in a sentence how a loss and the baseline are ranked, and where that flips.

    Returns:
        The sentence; empty where nothing was validated.
    """
    of_losses, baseline = means(comparison), comparison.baseline
    lead = (of_losses[loss] - of_losses[baseline]).dropna()
    if lead.empty:
        return ""
    known = lead[lead != 0]
    if known.empty:
        return f"`{loss}` and `{baseline}` are level at every one of these steps."
    last = "ahead of" if known.iloc[-1] > 0 else "behind"
    steps = flips(lead)
    end = comparison.results
    apart = end[loss].validation.iloc[-1].to_numpy() - end[baseline].validation.iloc[-1].to_numpy()
    agreeing = int((np.sign(apart) == np.sign(known.iloc[-1])).sum())
    seeds = f"; at the last step so in {agreeing} of {len(apart)} seeds" if len(apart) > 1 else ""
    if not steps:
        return f"`{loss}` is {last} `{baseline}` at every one of these steps{seeds}."
    before = f" (before, the lead changed at {_listed(steps[:-1])})" if steps[:-1] else ""
    return (
        f"The ranking flips at step {steps[-1]}: from there on `{loss}` is {last}"
        f" `{baseline}`{before}{seeds}."
    )


_NAMED = 6


def _listed(steps: list[int]) -> str:
    named = [f"step {step}" for step in steps[:_NAMED]]
    if len(steps) > _NAMED:
        named.append(f"and {len(steps) - _NAMED} more")
    return ", ".join(named)
