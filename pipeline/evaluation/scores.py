"""Compute and store the scores of one model, from a confusion matrix per frame."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import (
    CONFIDENCE_LEVEL,
    Floats,
    estimate_intervals,
    resample,
    sample_frames,
)
from pipeline.evaluation.npz import open_npz
from pipeline.formatting import format_percent
from segformer.cityscapes import CLASSES, NUM_CLASSES
from segformer.metrics import confusion as measures


@dataclass(frozen=True)
class Scores:
    """The confusion matrices of a model on the frames of a set.

    Attributes:
        protocol: the frames and the settings of the measurement, see
            `pipeline.evaluation.protocol`; scores of different protocols are never compared.
        frames: n keys.
        confusions: (n, 19, 19) int64 pixels; rows are true classes, columns predicted ones.
    """

    protocol: str
    frames: list[str]
    confusions: NDArray[np.int64]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file written by `save`.

        Raises:
            ValueError: naming the file, if it is missing, damaged or has other arrays.
        """
        with open_npz(path) as arrays:
            frames = [str(frame) for frame in arrays["frames"]]
            protocol, confusions = str(arrays["protocol"]), arrays["confusions"]
        expected = (len(frames), NUM_CLASSES, NUM_CLASSES)
        if confusions.shape != expected:
            raise ValueError(
                f"{path} has confusions of shape {confusions.shape}, expected {expected}:"
                " evaluate again"
            )
        return cls(protocol, frames, np.asarray(confusions, dtype=np.int64))

    def save(self, path: Path) -> None:
        """Write a compressed npz file without pickles; the same scores give the same bytes."""
        np.savez_compressed(
            path,
            confusions=self.confusions,
            frames=np.array(self.frames, dtype=str),
            protocol=np.array(self.protocol),
        )

    @property
    def total(self) -> NDArray[np.int64]:
        """The (19, 19) confusion of all frames."""
        return np.asarray(self.confusions.sum(axis=0))

    def metrics(self, resamples: int, seed: int) -> dict[str, float | None]:
        """Return the scores of the whole set, fractions of 1 to six digits; None where undefined.

        `miou_low` and `miou_high` are the ends of the 95 % bootstrap interval over frames.
        """
        miou = _to_numpy(measures.mean_iou(self.total))
        draws = sample_frames(len(self.frames), resamples, seed)
        replicates = _to_numpy(
            measures.mean_iou(torch.from_numpy(resample(self.confusions, draws)))
        )
        num_labeled_frames = np.array([(self.confusions.sum(axis=(1, 2)) > 0).sum()])
        interval = estimate_intervals(
            miou.reshape(1, 1), replicates[None, :, None], num_labeled_frames
        ).clip(0, 1)
        return {
            "miou": to_json_number(miou),
            "miou_low": to_json_number(interval.low[0]),
            "miou_high": to_json_number(interval.high[0]),
            "pixel_accuracy": to_json_number(measures.pixel_accuracy(self.total)),
            "category_miou": to_json_number(measures.category_iou(self.total).nanmean()),
            "frames": len(self.frames),
        }

    def class_iou(self) -> list[float | None]:
        """Return the IoU of each class over the whole set; None where it is absent."""
        return [to_json_number(iou) for iou in compute_class_iou(self.total)]

    def per_class(self) -> pd.DataFrame:
        """Rows per class: class, train_id, category, iou, truth_pixels, predicted_pixels."""
        return pd.DataFrame(
            {
                "class": [label.name for label in CLASSES],
                "train_id": [label.train_id for label in CLASSES],
                "category": [label.category for label in CLASSES],
                "iou": compute_class_iou(self.total),
                "truth_pixels": self.total.sum(axis=1),
                "predicted_pixels": self.total.sum(axis=0),
            }
        )

    def per_image(self) -> pd.DataFrame:
        """Rows per frame: frame, miou (over the classes that occur in it), pixel_accuracy."""
        return pd.DataFrame(
            {
                "frame": self.frames,
                "miou": _to_numpy(measures.mean_iou(self.confusions)),
                "pixel_accuracy": _to_numpy(measures.pixel_accuracy(self.confusions)),
            }
        )

    def summarize(self, metrics: dict[str, float | None]) -> str:
        """Return the result as a sentence with the interval and the protocol."""
        miou, low, high = (metrics[name] for name in ("miou", "miou_low", "miou_high"))
        if miou is None:
            return f"mIoU is undefined: no pixel is labeled ({self.protocol})"
        interval = "no interval from one frame"
        if low is not None and high is not None:
            level = f"{100 * CONFIDENCE_LEVEL:.0f} %"
            interval = f"{level} interval {format_percent(low)} to {format_percent(high)}"
        return f"mIoU {format_percent(miou)} %, {interval} ({self.protocol})"


def to_json_number(value: object) -> float | None:
    """Convert a fraction for JSON: six digits, None for nan."""
    fraction = float(value)  # type: ignore[arg-type]
    return None if np.isnan(fraction) else round(fraction, 6)


def compute_class_iou(confusion: NDArray[np.int64] | Floats) -> Floats:
    """(..., k, k) pixels, or their sums over a bootstrap sample -> (..., k); nan where absent."""
    return _to_numpy(measures.class_iou(torch.from_numpy(confusion)))


def write_score_table(path: Path, table: pd.DataFrame, protocol: str) -> None:
    """Write a table of scores with the protocol as first column and numbers of six digits."""
    rows = table.copy()
    rows.insert(0, "protocol", protocol)
    rows.to_csv(path, index=False, float_format="%.6f")


def _to_numpy(values: torch.Tensor) -> Floats:
    return np.asarray(values.numpy(), dtype=np.float64)
