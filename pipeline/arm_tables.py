"""The figures and tables of an ablation, for machines: what ablation.json and the CSVs hold."""

import numpy as np
import pandas as pd

from pipeline.budgets import last_flip
from pipeline.comparison import (
    ALL,
    CALIBRATION,
    FIRST_CLASS,
    FREQUENT,
    RARE,
    Comparison,
    Result,
)
from pipeline.pulls import Pulls
from pipeline.scores import number
from segformer.cityscapes import CLASS_NAMES


def figures_of(comparison: Comparison, pulls: Pulls) -> dict[str, dict[str, float | None]]:
    """For every loss its scores, and for every pair with the baseline the differences."""
    figures = {
        loss: _scores(result) | _shares(comparison, pulls, loss)
        for loss, result in comparison.results.items()
    }
    for loss in comparison.challengers:
        difference = _difference(comparison.results[loss])
        flip: dict[str, float | None] = {"flip_step": last_flip(comparison, loss)}
        figures[f"{loss}-{comparison.baseline}"] = difference | flip
    return figures


def _shares(comparison: Comparison, pulls: Pulls, loss: str) -> dict[str, float | None]:
    """The rare classes' share of the gradient at the scores, untrained and after all trainings."""
    shares = {weights: pulls.of[weights, loss].rare(comparison.is_rare) for weights in pulls.steps}
    return {
        "rare_gradient_start": number(shares[pulls.start]),
        "rare_gradient_trained": number(np.mean([shares[weights] for weights in pulls.trained])),
    }


def _scores(result: Result) -> dict[str, float | None]:
    return {
        "miou": number(result.scores.value[ALL]),
        "miou_std": number(result.deviation[ALL]),
        "low": number(result.scores.low[ALL]),
        "high": number(result.scores.high[ALL]),
        "rare": number(result.scores.value[RARE]),
        "frequent": number(result.scores.value[FREQUENT]),
        "ece": number(result.scores.value[CALIBRATION]),
    }


def _difference(result: Result) -> dict[str, float | None]:
    difference = result.difference
    assert difference is not None
    return {
        "difference": number(difference.value[ALL]),
        "low": number(difference.low[ALL]),
        "high": number(difference.high[ALL]),
        "p": number(difference.p[ALL]),
        "rare": number(difference.value[RARE]),
        "frequent": number(difference.value[FREQUENT]),
        "ece": number(difference.value[CALIBRATION]),
        "ece_low": number(difference.low[CALIBRATION]),
        "ece_high": number(difference.high[CALIBRATION]),
    }


def arm_table(comparison: Comparison) -> pd.DataFrame:
    """A row per loss: protocol, loss, seeds, steps, miou, std (empty with one seed), low, high."""
    rows = []
    for loss, result in comparison.results.items():
        scores = _scores(result)
        rows.append(
            {
                "protocol": comparison.protocol,
                "loss": loss,
                "seeds": len(comparison.seeds),
                "steps": comparison.steps,
                "miou": scores["miou"],
                "std": scores["miou_std"],
                "low": scores["low"],
                "high": scores["high"],
            }
        )
    return pd.DataFrame(rows)


def class_table(comparison: Comparison) -> pd.DataFrame:
    """A row per class and loss that is compared with the baseline."""
    base = comparison.results[comparison.baseline].scores.value[FIRST_CLASS:]
    tables = []
    for loss in comparison.challengers:
        result = comparison.results[loss]
        assert result.difference is not None
        tables.append(
            pd.DataFrame(
                {
                    "class": CLASS_NAMES,
                    "share": comparison.share,
                    "group": np.select(
                        [comparison.is_rare, comparison.is_frequent], ["rare", "frequent"], "absent"
                    ),
                    "loss": loss,
                    "baseline_iou": base,
                    "iou": result.scores.value[FIRST_CLASS:],
                    "difference": result.difference.value[FIRST_CLASS:],
                    "low": result.difference.low[FIRST_CLASS:],
                    "high": result.difference.high[FIRST_CLASS:],
                    "p_holm": result.p_holm,
                }
            )
        )
    columns = [
        "class",
        "share",
        "group",
        "loss",
        "baseline_iou",
        "iou",
        "difference",
        "low",
        "high",
    ]
    return pd.concat(tables) if tables else pd.DataFrame(columns=[*columns, "p_holm"])
