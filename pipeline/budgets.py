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
    steps = flips(_leads(comparison, loss).mean(axis=1))
    return steps[-1] if steps else None


def ranking(comparison: Comparison, loss: str) -> str:
    """Say in a sentence how a loss and the baseline are ranked, and where that flips.

    Returns:
        The sentence; empty where nothing was validated.
    """
    baseline = comparison.baseline
    of_seeds = _leads(comparison, loss)
    lead = of_seeds.mean(axis=1)
    known = lead[lead != 0]
    if lead.empty:
        return ""
    if known.empty:
        return f"`{loss}` and `{baseline}` are level at every one of these steps."
    steps, last = flips(lead), int(known.index[-1])
    if not steps:
        return (
            f"The ranking of the means never flips: at step {last} `{loss}` is"
            f" {_side(lead[last])} `{baseline}`{_agreeing(of_seeds, last)}."
        )
    before = int(known[known.index < steps[-1]].index[-1])
    earlier = f" Earlier flips: {_listed(steps[:-1])}." if steps[:-1] else ""
    return (
        f"The ranking of the means flips at step {steps[-1]}: at step {before} `{loss}` is"
        f" {_side(lead[before])} `{baseline}`{_agreeing(of_seeds, before)}, at step {last}"
        f" {_side(lead[last])} it{_agreeing(of_seeds, last)}.{earlier}"
    )


def _leads(comparison: Comparison, loss: str) -> pd.DataFrame:
    """Validation mIoU of a loss less the baseline's: a row per step, a column per seed."""
    mine, base = (comparison.results[name].validation for name in (loss, comparison.baseline))
    return pd.DataFrame(mine.to_numpy() - base.to_numpy(), index=mine.index).dropna()


def _side(lead: float) -> str:
    return "ahead of" if lead > 0 else "behind"


def _agreeing(of_seeds: pd.DataFrame, step: int) -> str:
    """How many seeds lead as their mean does; nothing where there is one."""
    signs = np.sign(of_seeds.loc[step].to_numpy())
    if len(signs) == 1:
        return ""
    agreeing = int((signs == np.sign(of_seeds.loc[step].mean())).sum())
    return f" (in {agreeing} of {len(signs)} seeds)"


_NAMED = 6


def _listed(steps: list[int]) -> str:
    named = [f"step {step}" for step in steps[:_NAMED]]
    if len(steps) > _NAMED:
        named.append(f"and {len(steps) - _NAMED} more")
    return ", ".join(named)
