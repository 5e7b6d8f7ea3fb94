"""Writes the tables and charts of an evaluation."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import calibration_chart, rarity_chart, score_charts
from pipeline.counting import Counts
from pipeline.protocol_table import write_scores
from pipeline.robustness import draw_robustness, robustness_table
from pipeline.scores import Scores

Metrics = dict[str, float | None]

Corrupted = dict[tuple[str, int], NDArray[np.int64]]
"""(19, 19) pixels of all frames, by corruption and severity."""


def write_tables(folder: Path, scores: Scores, counts: Counts, metrics: Metrics) -> None:
    """Write the scores as JSON and CSV, and the counts behind them as npz."""
    facts = {"protocol": scores.protocol, **metrics}
    (folder / "metrics.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    tables = {
        "per_class": scores.per_class().join(counts.per_class()),
        "per_image": scores.per_image().join(counts.per_image()),
        "calibration": counts.reliability(),
    }
    for name, table in tables.items():
        write_scores(folder / f"{name}.csv", table, scores.protocol)
    scores.save(folder / "confusions.npz")
    counts.save(folder / "counts.npz")


def draw(folder: Path, scores: Scores, counts: Counts, metrics: Metrics, *, name: str) -> None:
    """Draw the charts of the model called `name`."""
    score_charts.draw_confusion(scores, name, folder / "confusion.png")
    score_charts.draw_class_iou(scores, name, metrics, folder / "per_class.png")
    titled = {"name": name, "protocol": scores.protocol}
    sums = counts.calibrations.sum(0)
    calibration_chart.draw_reliability(sums, **titled, path=folder / "reliability.png")
    rarity_chart.draw_rarity(scores.per_class(), **titled, path=folder / "frequency_iou.png")


def write_robustness(
    folder: Path, scores: Scores, corrupted: Corrupted, metrics: Metrics, *, name: str
) -> None:
    """Write how the model called `name` did on spoiled photographs; no chart if on none."""
    folder.mkdir()
    table = robustness_table(scores.total, corrupted)
    write_scores(folder / "robustness.csv", table, scores.protocol)
    if corrupted and (miou := metrics["miou"]) is not None:
        path = folder / "robustness.png"
        draw_robustness(table, clean_miou=miou, name=name, protocol=scores.protocol, path=path)
