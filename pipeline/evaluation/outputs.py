"""Write the files of an evaluation: tables, plots and arrays."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import plots
from pipeline.evaluation.counts import DatasetCounts
from pipeline.evaluation.robustness import build_robustness_table, plot_robustness
from pipeline.evaluation.scores import Scores, write_score_table

Metrics = dict[str, float | None]

CorruptedConfusions = dict[tuple[str, int], NDArray[np.int64]]
"""The (19, 19) confusion of all frames, by corruption and severity."""


def write_tables(folder: Path, scores: Scores, counts: DatasetCounts, metrics: Metrics) -> None:
    """Write the scores as JSON and CSV, and the counts they are computed from as npz."""
    facts = {"protocol": scores.protocol, **metrics}
    (folder / "metrics.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    tables = {
        "per_class": scores.per_class().join(counts.per_class()),
        "per_image": scores.per_image().join(counts.per_image()),
        "calibration": counts.reliability(),
    }
    for name, table in tables.items():
        write_score_table(folder / f"{name}.csv", table, scores.protocol)
    scores.save(folder / "confusions.npz")
    counts.save(folder / "counts.npz")


def write_plots(
    folder: Path, scores: Scores, counts: DatasetCounts, metrics: Metrics, *, name: str
) -> None:
    """Draw the figures of the model called `name`."""
    plots.plot_confusion(scores, name, folder / "confusion.png")
    plots.plot_class_iou(scores, name, metrics, folder / "per_class.png")
    labels = {"name": name, "protocol": scores.protocol}
    calibration = counts.calibrations.sum(0)
    plots.plot_reliability(calibration, **labels, path=folder / "reliability.png")
    plots.plot_frequency_iou(scores.per_class(), **labels, path=folder / "frequency_iou.png")


def write_robustness(
    folder: Path, scores: Scores, corrupted: CorruptedConfusions, metrics: Metrics, *, name: str
) -> None:
    """Write the table and the figure of robustness; without corruptions the table alone."""
    folder.mkdir()
    table = build_robustness_table(scores.total, corrupted)
    write_score_table(folder / "robustness.csv", table, scores.protocol)
    if corrupted and (miou := metrics["miou"]) is not None:
        path = folder / "robustness.png"
        plot_robustness(table, clean_miou=miou, name=name, protocol=scores.protocol, path=path)
