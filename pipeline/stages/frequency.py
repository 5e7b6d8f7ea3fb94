"""Frequency: how often each class occurs in training, and the weights that follow from it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pipeline.class_chart import draw_class_frequency
from pipeline.section import Section
from segformer.atomic import replacing, write_text
from segformer.cityscapes import CLASSES, LABELS

Counts = NDArray[np.float64]


class Frequency(Section):
    """How counts become sampling probabilities."""

    temperature: PositiveFloat
    """Of rare-class sampling: the lower, the more often frames with rare classes are drawn."""


def erfnet(counts: Counts, all_pixels: float) -> Counts:
    """1 / ln(1.10 + p), p over all pixels, void included (ERFNet's published vector)."""
    return np.asarray(1 / np.log(1.10 + counts / all_pixels))


def enet(counts: Counts, _all_pixels: float) -> Counts:
    """1 / ln(1.02 + q), q over labelled pixels (ENet, arXiv:1606.02147, section 5.2)."""
    return np.asarray(1 / np.log(1.02 + counts / counts.sum()))


def median(counts: Counts, _all_pixels: float) -> Counts:
    """Median of the classes' counts over the count; 0 for a class that never occurs."""
    present = counts > 0
    middle = np.median(counts[present])
    return np.divide(middle, counts, out=np.zeros_like(counts), where=present)


FAMILIES: dict[str, Callable[[Counts, float], Counts]] = {
    "erfnet": erfnet,
    "enet": enet,
    "median": median,
}
"""From (19,) labelled pixels per class and the number of all pixels to (19,) loss weights."""


def run(params: Frequency, *, frames: Path, pixel_counts: Path, out: Path) -> None:
    """Write class_frequency.csv, class_weights.csv, sampling.csv and class_frequency.png.

    Only the training split is counted.

    Args:
        params: the section `frequency`.
        frames: frames.csv of `remap`.
        pixel_counts: pixel_counts.csv of `remap`.
        out: where to write.
    """
    table = pd.read_csv(frames).merge(pd.read_csv(pixel_counts), on="frame", validate="1:1")
    table = table[table["split"] == "train"]
    per_frame = table[[f"id_{label.label_id}" for label in LABELS]].to_numpy(np.int64)
    scored = per_frame[:, [label.label_id for label in CLASSES]]  # (frames, 19)

    frequency = class_frequency(scored)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "class_frequency.csv", frequency.to_csv(index=False))
    weights = class_weights(scored.sum(axis=0).astype(np.float64), float(per_frame.sum()))
    write_text(out / "class_weights.csv", weights.round(6).to_csv(index=False))
    sampling = pd.DataFrame({"frame": table["frame"]})
    sampling["probability"] = rare_class_sampling(scored, params.temperature)
    write_text(out / "sampling.csv", sampling.to_csv(index=False))
    with replacing(out / "class_frequency.png") as part:
        draw_class_frequency(frequency, part)


def class_frequency(scored: NDArray[np.int64]) -> pd.DataFrame:
    """One row per class from (frames, 19) pixel counts."""
    pixels = scored.sum(axis=0)
    return pd.DataFrame(
        {
            "class": [label.name for label in CLASSES],
            "train_id": [label.train_id for label in CLASSES],
            "category": [label.category for label in CLASSES],
            "pixels": pixels,
            "share": (pixels / max(pixels.sum(), 1)).round(8),
            "frames": (scored > 0).sum(axis=0),
        }
    )


def class_weights(counts: Counts, all_pixels: float) -> pd.DataFrame:
    """One row per class, one column per family of loss weights."""
    table = pd.DataFrame(
        {
            "class": [label.name for label in CLASSES],
            "train_id": [label.train_id for label in CLASSES],
        }
    )
    for name, family in FAMILIES.items():
        table[name] = family(counts, all_pixels)
    return table


def rare_class_sampling(scored: NDArray[np.int64], temperature: float) -> Counts:
    """How probably each frame is drawn when a class is drawn first, rare ones more often.

    A class is drawn with probability ~ exp((1 - share) / temperature), then one of the frames in
    which it occurs, evenly (DAFormer, arXiv:2111.14887, section 3.3).

    Args:
        scored: (frames, 19) pixel counts.
        temperature: over 0; the larger, the more even.

    Returns:
        (frames,) probabilities; frames without a labelled pixel have 0.
    """
    occurs = scored > 0
    frames_with = occurs.sum(axis=0)
    present = frames_with > 0
    share = scored.sum(axis=0)[present] / max(scored.sum(), 1)
    exponent = (1 - share) / temperature
    classes = np.exp(exponent - exponent.max())
    classes /= classes.sum()
    return np.asarray((occurs[:, present] / frames_with[present]) @ classes)
