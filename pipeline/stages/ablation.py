"""The stage `ablation`: compares losses at one budget, paired by frame and seed, and reports."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.ablation.arms import read_arms
from pipeline.ablation.comparison import Comparison, compare_losses
from pipeline.ablation.gradients import GradientResults, build_share_table, read_gradients
from pipeline.ablation.plots import (
    plot_calibration,
    plot_differences,
    plot_gradients,
    plot_validation_curves,
)
from pipeline.ablation.report import format_report
from pipeline.ablation.tables import build_arm_table, build_class_table, collect_metrics
from pipeline.ablation.verdict import format_verdict
from pipeline.evaluation.bootstrap import Floats
from pipeline.evaluation.scores import write_score_table
from pipeline.params.ablation import Ablation
from segformer.atomic import replacing_contents
from segformer.cityscapes import CLASS_NAMES


@dataclass(frozen=True)
class AblationResult:
    """The result of an ablation, as it is logged.

    Attributes:
        metrics: the numbers of ablation.json under names like `ce/miou` and `dice-ce/difference`;
            None where undefined.
        protocol: the evaluation protocol of all arms.
        sentence: which loss wins, by how much and at which budget, or that it is inconclusive.
    """

    metrics: dict[str, float | None]
    protocol: str
    sentence: str


@dataclass(frozen=True)
class AblationInputs:
    """The files that the stage reads.

    Attributes:
        evaluations: the output folder of `evaluate`, with a folder per arm.
        histories: the output folder of `train`, with a folder per arm.
        gradients: the output folder of `gradients`.
        frequency: class_frequency.csv.
    """

    evaluations: Path
    histories: Path
    gradients: Path
    frequency: Path


def compare_arms(params: Ablation, *, inputs: AblationInputs, out: Path) -> AblationResult:
    """Write ablation.json, ablation.md with its figures, and three tables into `out`.

    The tables: ablation.csv (a row per loss), classes.csv (a row per loss and class) and
    gradients.csv (a row per weights, loss and class: its share of the gradient at the logits and
    at each group of layers, and the L2 norm of its gradient there).

    Raises:
        ValueError: if arms are missing, or two are not comparable.
    """
    comparison, gradients = load_comparison(params, inputs)
    report: dict[str, Any] = {
        "protocol": comparison.protocol,
        "steps": comparison.steps,
        "frames": comparison.num_frames,
        "seeds": len(comparison.seeds),
        **collect_metrics(comparison, gradients),
    }
    with replacing_contents(out) as folder:
        (folder / "ablation.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (folder / "ablation.md").write_text(format_report(comparison, gradients), encoding="utf-8")
        build_arm_table(comparison).to_csv(
            folder / "ablation.csv", index=False, float_format="%.6f"
        )
        write_score_table(
            folder / "classes.csv", build_class_table(comparison), comparison.protocol
        )
        build_share_table(gradients).to_csv(
            folder / "gradients.csv", index=False, float_format="%.6f"
        )
        plot_differences(comparison, folder / "differences.png")
        plot_validation_curves(comparison, folder / "curves.png")
        plot_calibration(comparison, folder / "calibration.png")
        plot_gradients(comparison, gradients, folder / "gradients.png")
    return summarize(comparison, gradients)


def load_comparison(params: Ablation, inputs: AblationInputs) -> tuple[Comparison, GradientResults]:
    """Read all arms and compare them.

    Raises:
        ValueError: if arms are missing, or two are not comparable.
    """
    comparison = compare_losses(
        read_arms(inputs.evaluations, inputs.histories, params.losses, params.seeds),
        seeds=params.seeds,
        baseline=params.baseline,
        share=_read_class_share(inputs.frequency),
        resamples=params.bootstrap,
        seed=params.seed,
    )
    return comparison, read_gradients(inputs.gradients, params.losses)


def summarize(comparison: Comparison, gradients: GradientResults) -> AblationResult:
    """Collect the metrics and the verdict."""
    metrics = {
        f"{arm}/{name}": value
        for arm, values in collect_metrics(comparison, gradients).items()
        for name, value in values.items()
    }
    return AblationResult(metrics, comparison.protocol, format_verdict(comparison))


def _read_class_share(frequency: Path) -> Floats:
    table = pd.read_csv(frequency)
    if table["class"].tolist() != list(CLASS_NAMES):
        raise ValueError(
            f"{frequency} does not list the {len(CLASS_NAMES)} classes in order:"
            " run `dvc repro --force frequency`"
        )
    return table["share"].to_numpy(float)
