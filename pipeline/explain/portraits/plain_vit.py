"""Head portraits of a plain ViT's last block: the classes that the CLS token attends to."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.explain.cls_explainer import ClsExplainer
from pipeline.explain.portraits.measurements import HeadMeasurements, HeadPortraits
from pipeline.explain.portraits.plots import plot_lift
from pipeline.explain.portraits.report import summarize
from pipeline.explain.portraits.tables import build_head_table, build_lift_table
from segformer.atomic import replacing_contents
from segformer.cityscapes import NUM_CLASSES
from segformer.vit.cls_statistics import cls_statistics

MAX_FRAMES = 32
"""Frames that are measured, spread over all inputs: neighbors in a film are nearly the same."""

_RESAMPLES, _SEED = 2000, 0  # of the bootstrap, as params.yaml has them


def measure_cls_heads(
    explainer: ClsExplainer, frames: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
) -> HeadPortraits:
    """Measure the heads of the last block, with intervals over frames.

    Args:
        explainer: of the plain ViT; all its heads are measured.
        frames: photographs, (H, W, 3) uint8 RGB, with the train ids of their pixels, (H, W) uint8.

    Returns:
        The portraits, as of a network with one stage. Distances and position lifts are nan.

    Raises:
        ValueError: if there is no frame, or all labels of one are void.
    """
    measurements = HeadMeasurements()
    for photograph, classes in frames:
        weights = torch.from_numpy(explainer.compute_weights(photograph))
        labels = torch.from_numpy(classes.astype(np.int64))
        statistics = cls_statistics(weights, labels, NUM_CLASSES, block=explainer.block)
        measurements.add_statistics([statistics], (photograph.shape[0], photograph.shape[1]))
    return measurements.estimate_portraits(resamples=_RESAMPLES, seed=_SEED)


def write_portraits(portraits: HeadPortraits, *, name: str, classes_from: str, out: Path) -> str:
    """Write lift.csv, heads.csv and lift.png into a folder, all or none.

    Args:
        portraits: of `measure_cls_heads`.
        name: of the model.
        classes_from: the labels, or the model that predicted the classes.
        out: the folder.

    Returns:
        The main finding in a sentence.
    """
    with replacing_contents(out) as folder:
        for table, file in (
            (build_lift_table(portraits), "lift.csv"),
            (build_head_table(portraits), "heads.csv"),
        ):
            table.to_csv(folder / file, index=False, float_format="%.6f")
        plot_lift(
            portraits, arm=name, protocol=f"classes: {classes_from}", path=folder / "lift.png"
        )
    return summarize(portraits, name)
