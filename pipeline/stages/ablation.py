"""Ablation: compare losses at one budget, frame by frame and seed by seed, and say what holds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.arm_charts import draw_curves, draw_differences
from pipeline.arms import read_arms
from pipeline.bootstrap import Floats
from pipeline.comparison import ALL, FIRST_CLASS, FREQUENT, RARE, Comparison, Result, compare
from pipeline.publish import publishing
from pipeline.report import write_report
from pipeline.scores import number
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


def run(
    params: Ablation, *, evaluations: Path, histories: Path, frequency: Path, out: Path
) -> Outcome:
    """Write ablation.json, ablation.csv, classes.csv, ablation.md and its figures into `out`.

    Args:
        params: the section `ablation`.
        evaluations: the folder of `evaluate`, with a folder per arm.
        histories: the folder of `train`, with a folder per arm.
        frequency: class_frequency.csv of `frequency`.
        out: where to write.

    Raises:
        ValueError: naming all arms that are missing, or two that must not be compared.
    """
    comparison = compare(
        read_arms(evaluations, histories, params.losses, params.seeds),
        seeds=params.seeds,
        baseline=params.baseline,
        share=_read_share(frequency),
        resamples=params.bootstrap,
        seed=params.seed,
    )
    figures = _figures(comparison)
    facts: dict[str, Any] = {
        "protocol": comparison.protocol,
        "steps": comparison.steps,
        "frames": comparison.num_frames,
        "seeds": len(comparison.seeds),
        **figures,
    }
    with publishing(out) as folder:
        (folder / "ablation.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (folder / "ablation.md").write_text(write_report(comparison), encoding="utf-8")
        _arm_table(comparison).to_csv(folder / "ablation.csv", index=False, float_format="%.6f")
        _class_table(comparison).to_csv(folder / "classes.csv", index=False, float_format="%.6f")
        draw_differences(comparison, folder / "differences.png")
        draw_curves(comparison, folder / "curves.png")
    flat = {
        f"{arm}/{name}": value for arm, values in figures.items() for name, value in values.items()
    }
    return Outcome(flat, comparison.protocol, verdict(comparison))


def _read_share(frequency: Path) -> Floats:
    table = pd.read_csv(frequency)
    if table["class"].tolist() != list(CLASS_NAMES):
        raise ValueError(
            f"{frequency} does not list the {len(CLASS_NAMES)} classes: repeat frequency"
        )
    return table["share"].to_numpy(float)


def _figures(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    """For every loss its scores, and for every pair with the baseline the differences."""
    figures = {loss: _scores(result) for loss, result in comparison.results.items()}
    for loss in comparison.challengers:
        figures[f"{loss}-{comparison.baseline}"] = _difference(comparison.results[loss])
    return figures


def _scores(result: Result) -> dict[str, float | None]:
    return {
        "miou": number(result.scores.value[ALL]),
        "miou_std": number(result.deviation[ALL]),
        "low": number(result.scores.low[ALL]),
        "high": number(result.scores.high[ALL]),
        "rare": number(result.scores.value[RARE]),
        "frequent": number(result.scores.value[FREQUENT]),
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
    }


def _arm_table(comparison: Comparison) -> pd.DataFrame:
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


def _class_table(comparison: Comparison) -> pd.DataFrame:
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
                    "group": ["rare" if is_rare else "frequent" for is_rare in comparison.is_rare],
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
