"""Ablation: compare losses at one budget, frame by frame and seed by seed, and say what holds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.arm_charts import draw_calibration, draw_curves, draw_differences
from pipeline.arm_tables import arm_table, class_table, figures_of
from pipeline.arms import read_arms
from pipeline.bootstrap import Floats
from pipeline.comparison import Comparison, compare
from pipeline.protocol_table import write_scores
from pipeline.publish import publishing
from pipeline.pull_chart import draw_pulls
from pipeline.pulls import Pulls, read_pulls, share_table
from pipeline.report import write_report
from pipeline.section import Section, nearest
from pipeline.verdict import verdict
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
    def _arms_are_distinct(self) -> Self:
        for loss in self.losses:
            if loss not in LOSSES:
                raise ValueError(
                    f"{loss} is not a loss{nearest(loss, list(LOSSES))};"
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

    def arms(self) -> list[str]:
        """The names of all trainings: `{loss}-{seed}`."""
        return [f"{loss}-{seed}" for loss in self.losses for seed in self.seeds]


@dataclass(frozen=True)
class Outcome:
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
class Inputs:
    """The folders of `evaluate`, `train` (all arms) and `gradients`; class_frequency.csv."""

    evaluations: Path
    histories: Path
    gradients: Path
    frequency: Path


def run(params: Ablation, *, inputs: Inputs, out: Path) -> Outcome:
    """Write ablation.json, ablation.md with its figures, and three tables into `out`.

    The tables: ablation.csv (a row per loss), classes.csv (per loss and class), gradients.csv (per
    weights, loss and class: its share of the gradient at the scores and at each group of layers,
    and the length of what it sends there).

    Raises:
        ValueError: naming all arms that are missing, or two that must not be compared.
    """
    comparison, pulls = read(params, inputs)
    facts: dict[str, Any] = {
        "protocol": comparison.protocol,
        "steps": comparison.steps,
        "frames": comparison.num_frames,
        "seeds": len(comparison.seeds),
        **figures_of(comparison, pulls),
    }
    with publishing(out) as folder:
        (folder / "ablation.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (folder / "ablation.md").write_text(write_report(comparison, pulls), encoding="utf-8")
        arm_table(comparison).to_csv(folder / "ablation.csv", index=False, float_format="%.6f")
        write_scores(folder / "classes.csv", class_table(comparison), comparison.protocol)
        share_table(pulls).to_csv(folder / "gradients.csv", index=False, float_format="%.6f")
        draw_differences(comparison, folder / "differences.png")
        draw_curves(comparison, folder / "curves.png")
        draw_calibration(comparison, folder / "calibration.png")
        draw_pulls(comparison, pulls, folder / "gradients.png")
    return tell(comparison, pulls)


def read(params: Ablation, inputs: Inputs) -> tuple[Comparison, Pulls]:
    """Read all arms and compare them.

    Raises:
        ValueError: naming all arms that are missing, or two that must not be compared.
    """
    comparison = compare(
        read_arms(inputs.evaluations, inputs.histories, params.losses, params.seeds),
        seeds=params.seeds,
        baseline=params.baseline,
        share=_read_share(inputs.frequency),
        resamples=params.bootstrap,
        seed=params.seed,
    )
    return comparison, read_pulls(inputs.gradients, params.losses)


def tell(comparison: Comparison, pulls: Pulls) -> Outcome:
    """Say what came of it."""
    figures = {
        f"{arm}/{name}": value
        for arm, values in figures_of(comparison, pulls).items()
        for name, value in values.items()
    }
    return Outcome(figures, comparison.protocol, verdict(comparison))


def _read_share(frequency: Path) -> Floats:
    table = pd.read_csv(frequency)
    if table["class"].tolist() != list(CLASS_NAMES):
        raise ValueError(
            f"{frequency} does not list the {len(CLASS_NAMES)} classes: repeat frequency"
        )
    return table["share"].to_numpy(float)
