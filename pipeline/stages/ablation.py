"""Ablation: compare losses at one budget, frame by frame and seed by seed, and say what holds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.arm_charts import plot_calibration, plot_validation_curves, plot_differences
from pipeline.arm_tables import build_arm_table, build_class_table, collect_metrics
from pipeline.arms import read_arms
from pipeline.bootstrap import Floats
from pipeline.comparison import Comparison, compare_losses
from pipeline.protocol_table import write_score_table
from pipeline.publish import replacing_contents
from pipeline.pull_chart import plot_gradients
from pipeline.pulls import GradientResults, read_gradients, build_share_table
from pipeline.report import format_report
from pipeline.section import Section, suggest_name
from pipeline.verdict import format_verdict
from segformer.cityscapes import CLASS_NAMES
from segformer.losses import LOSSES


class Ablation(Section):
    """Which losses are trained and compared, and how."""

    losses: list[str] = Field(min_length=1)
    seeds: list[NonNegativeInt] = Field(min_length=1)
    """Every loss is trained once with each."""
    baseline: str
    """The loss that the others are compared with; one of `losses`."""
    bootstrap: PositiveInt
    """Resamples of frames behind every interval."""
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _check_arms(self) -> Self:
        for loss in self.losses:
            if loss not in LOSSES:
                raise ValueError(
                    f"{loss} is not a loss{suggest_name(loss, list(LOSSES))};"
                    f" choose from {', '.join(LOSSES)}"
                )
        for name, values in (("losses", self.losses), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one of them twice: {values}")
        if self.baseline not in self.losses:
            raise ValueError(
                f"baseline is {self.baseline}, which is not among losses {self.losses}"
            )
        return self

    def arm_names(self) -> list[str]:
        """The names of all trainings: `{loss}-{seed}`."""
        return [f"{loss}-{seed}" for loss in self.losses for seed in self.seeds]


@dataclass(frozen=True)
class AblationResult:
    """What is worth telling about an ablation.

    Attributes:
        metrics: the figures of ablation.json under names like `ce/miou` and `dice-ce/difference`;
            None where undefined.
        protocol: by which all arms were measured.
        sentence: which loss wins, by how much, at which budget, or that the data cannot tell.
    """

    metrics: dict[str, float | None]
    protocol: str
    sentence: str


@dataclass(frozen=True)
class AblationInputs:
    """The folders of `evaluate`, `train` (all arms) and `gradients`; class_frequency.csv."""

    evaluations: Path
    histories: Path
    gradients: Path
    frequency: Path


def compare_arms(params: Ablation, *, inputs: AblationInputs, out: Path) -> AblationResult:
    """Write ablation.json, ablation.md with its figures, and three tables into `out`.

    The tables: ablation.csv (a row per loss), classes.csv (per loss and class), gradients.csv (per
    weights, loss and class: its share of the gradient at the scores and at each group of layers,
    and the length of what it sends there).

    Raises:
        ValueError: naming all arms that are missing, or two that must not be compared.
    """
    comparison, pulls = load_comparison(params, inputs)
    facts: dict[str, Any] = {
        "protocol": comparison.protocol,
        "steps": comparison.steps,
        "frames": comparison.num_frames,
        "seeds": len(comparison.seeds),
        **collect_metrics(comparison, pulls),
    }
    with replacing_contents(out) as folder:
        (folder / "ablation.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (folder / "ablation.md").write_text(format_report(comparison, pulls), encoding="utf-8")
        build_arm_table(comparison).to_csv(folder / "ablation.csv", index=False, float_format="%.6f")
        write_score_table(folder / "classes.csv", build_class_table(comparison), comparison.protocol)
        build_share_table(pulls).to_csv(folder / "gradients.csv", index=False, float_format="%.6f")
        plot_differences(comparison, folder / "differences.png")
        plot_validation_curves(comparison, folder / "curves.png")
        plot_calibration(comparison, folder / "calibration.png")
        plot_gradients(comparison, pulls, folder / "gradients.png")
    return summarize(comparison, pulls)


def load_comparison(params: Ablation, inputs: AblationInputs) -> tuple[Comparison, GradientResults]:
    """Read all arms and compare them.

    Raises:
        ValueError: naming all arms that are missing, or two that must not be compared.
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


def summarize(comparison: Comparison, pulls: GradientResults) -> AblationResult:
    """Say what came of it."""
    figures = {
        f"{arm}/{name}": value
        for arm, values in collect_metrics(comparison, pulls).items()
        for name, value in values.items()
    }
    return AblationResult(figures, comparison.protocol, format_verdict(comparison))


def _read_class_share(frequency: Path) -> Floats:
    table = pd.read_csv(frequency)
    if table["class"].tolist() != list(CLASS_NAMES):
        raise ValueError(
            f"{frequency} does not list the {len(CLASS_NAMES)} classes: repeat frequency"
        )
    return table["share"].to_numpy(float)
