"""Builds the metrics and tables of an ablation: ablation.json, ablation.csv and classes.csv."""

import numpy as np
import pandas as pd

from pipeline.ablation.comparison import CLASS_IOU, Comparison, LossResult, Quantity
from pipeline.ablation.gradients import GradientResults
from pipeline.ablation.ranking import find_last_change
from pipeline.evaluation.scores import to_json_number
from segformer.cityscapes import CLASS_NAMES


def collect_metrics(
    comparison: Comparison, gradients: GradientResults
) -> dict[str, dict[str, float | None]]:
    """Collect the scores of every loss and its differences to the baseline, by `loss-baseline`."""
    metrics = {
        loss: _score_metrics(result) | _gradient_metrics(comparison, gradients, loss)
        for loss, result in comparison.results.items()
    }
    for loss in comparison.challengers:
        differences = _difference_metrics(comparison.results[loss])
        differences["flip_step"] = find_last_change(comparison, loss)
        metrics[f"{loss}-{comparison.baseline}"] = differences
    return metrics


def _gradient_metrics(
    comparison: Comparison, gradients: GradientResults, loss: str
) -> dict[str, float | None]:
    """The rare classes' gradient share at the logits: at the initial and at the trained weights."""
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
        "miou": to_json_number(result.scores.value[Quantity.MIOU]),
        "miou_std": to_json_number(result.seed_std[Quantity.MIOU]),
        "low": to_json_number(result.scores.low[Quantity.MIOU]),
        "high": to_json_number(result.scores.high[Quantity.MIOU]),
        "rare": to_json_number(result.scores.value[Quantity.RARE_MIOU]),
        "frequent": to_json_number(result.scores.value[Quantity.FREQUENT_MIOU]),
        "ece": to_json_number(result.scores.value[Quantity.CALIBRATION_ERROR]),
    }


def _difference_metrics(result: LossResult) -> dict[str, float | None]:
    difference = result.difference
    assert difference is not None
    return {
        "difference": to_json_number(difference.value[Quantity.MIOU]),
        "low": to_json_number(difference.low[Quantity.MIOU]),
        "high": to_json_number(difference.high[Quantity.MIOU]),
        "p": to_json_number(difference.p[Quantity.MIOU]),
        "rare": to_json_number(difference.value[Quantity.RARE_MIOU]),
        "frequent": to_json_number(difference.value[Quantity.FREQUENT_MIOU]),
        "ece": to_json_number(difference.value[Quantity.CALIBRATION_ERROR]),
        "ece_low": to_json_number(difference.low[Quantity.CALIBRATION_ERROR]),
        "ece_high": to_json_number(difference.high[Quantity.CALIBRATION_ERROR]),
    }


def build_arm_table(comparison: Comparison) -> pd.DataFrame:
    """Build a row per loss with mIoU, its standard deviation over seeds and its interval.

    Columns: protocol, loss, seeds, steps, miou, std (nan with one seed), low, high.
    """
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
    """Build a row per class for each loss that is compared with the baseline."""
    baseline_iou = comparison.results[comparison.baseline].scores.value[CLASS_IOU]
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
                    "baseline_iou": baseline_iou,
                    "iou": result.scores.value[CLASS_IOU],
                    "difference": result.difference.value[CLASS_IOU],
                    "low": result.difference.low[CLASS_IOU],
                    "high": result.difference.high[CLASS_IOU],
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
