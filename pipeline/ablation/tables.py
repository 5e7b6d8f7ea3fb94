"""The figures and tables of an ablation, for machines: what ablation.json and the CSVs hold."""

import numpy as np
import pandas as pd

from pipeline.ablation.comparison import (
    ALL,
    CALIBRATION,
    FIRST_CLASS,
    FREQUENT,
    RARE,
    Comparison,
    LossResult,
)
from pipeline.ablation.gradients import GradientResults
from pipeline.ablation.ranking import find_last_change
from pipeline.evaluation.scores import to_json_number
from segformer.cityscapes import CLASS_NAMES


def collect_metrics(
    comparison: Comparison, gradients: GradientResults
) -> dict[str, dict[str, float | None]]:
    """For every loss its scores, and for every pair with the baseline the differences."""
    figures = {
        loss: _score_metrics(result) | _gradient_metrics(comparison, gradients, loss)
        for loss, result in comparison.results.items()
    }
    for loss in comparison.challengers:
        difference = _difference_metrics(comparison.results[loss])
        flip: dict[str, float | None] = {"flip_step": find_last_change(comparison, loss)}
        figures[f"{loss}-{comparison.baseline}"] = difference | flip
    return figures


def _gradient_metrics(
    comparison: Comparison, gradients: GradientResults, loss: str
) -> dict[str, float | None]:
    """The rare classes' share of the gradient at the scores, untrained and after all trainings."""
    shares = {
        weights: gradients.summaries[weights, loss].rare_logit_share(comparison.is_rare)
        for weights in gradients.steps
    }
    return {
        "rare_gradient_start": to_json_number(shares[gradients.initial_weights]),
        "rare_gradient_trained": to_json_number(
            np.mean([shares[weights] for weights in gradients.trained_weights])
        ),
    }


def _score_metrics(result: LossResult) -> dict[str, float | None]:
    return {
        "miou": to_json_number(result.scores.value[ALL]),
        "miou_std": to_json_number(result.seed_std[ALL]),
        "low": to_json_number(result.scores.low[ALL]),
        "high": to_json_number(result.scores.high[ALL]),
        "rare": to_json_number(result.scores.value[RARE]),
        "frequent": to_json_number(result.scores.value[FREQUENT]),
        "ece": to_json_number(result.scores.value[CALIBRATION]),
    }


def _difference_metrics(result: LossResult) -> dict[str, float | None]:
    difference = result.difference
    assert difference is not None
    return {
        "difference": to_json_number(difference.value[ALL]),
        "low": to_json_number(difference.low[ALL]),
        "high": to_json_number(difference.high[ALL]),
        "p": to_json_number(difference.p[ALL]),
        "rare": to_json_number(difference.value[RARE]),
        "frequent": to_json_number(difference.value[FREQUENT]),
        "ece": to_json_number(difference.value[CALIBRATION]),
        "ece_low": to_json_number(difference.low[CALIBRATION]),
        "ece_high": to_json_number(difference.high[CALIBRATION]),
    }


def build_arm_table(comparison: Comparison) -> pd.DataFrame:
    """A row per loss: protocol, loss, seeds, steps, miou, std (empty with one seed), low, high."""
    rows = []
    for loss, result in comparison.results.items():
        scores = _score_metrics(result)
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


def build_class_table(comparison: Comparison) -> pd.DataFrame:
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
