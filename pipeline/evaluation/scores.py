"""The scores of one model: a confusion per frame, and what follows from them."""

import zipfile
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
from pipeline.formatting import format_percent
from segformer.cityscapes import CLASSES, NUM_CLASSES
from segformer.metrics import confusion as measures


@dataclass(frozen=True)
class Scores:
    """What a model did on every frame of a set.

    Attributes:
        protocol: the set, how it was divided, the network's input size, and how it was applied;
            scores of unlike protocols are never compared.
        frames: n keys.
        confusions: (n, 19, 19) int64 pixels; rows are true classes, columns predicted ones.
    """

    protocol: str
    frames: list[str]
    confusions: NDArray[np.int64]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: naming the file, if it is missing, damaged or holds something else.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
                frames = [str(frame) for frame in held["frames"]]
                scores = cls(str(held["protocol"]), frames, held["confusions"])
        except FileNotFoundError:
            raise ValueError(f"{path} is missing") from None
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no confusions ({error}): evaluate again") from None
        if scores.confusions.shape != (len(frames), NUM_CLASSES, NUM_CLASSES):
            raise ValueError(
                f"{path}: {len(frames)} frames, but confusions {scores.confusions.shape}: it should"
                f" be {(len(frames), NUM_CLASSES, NUM_CLASSES)}; evaluate again"
            )
        return scores

    def save(self, path: Path) -> None:
        """Write a compressed npz that needs no unpickling; the same bytes for the same scores."""
        np.savez_compressed(
            path,
            confusions=self.confusions,
            frames=np.array(self.frames, dtype=str),
            protocol=np.array(self.protocol),
        )

    @property
    def total(self) -> NDArray[np.int64]:
        """(19, 19): all frames together."""
        return np.asarray(self.confusions.sum(axis=0))

    def metrics(self, resamples: int, seed: int) -> dict[str, float | None]:
        """Return the figures of the whole set, fractions of 1 to six digits; None where undefined.

        `miou_low` and `miou_high` are the ends of the 95 % bootstrap interval over frames.
        """
        miou = _to_numpy(measures.mean_iou(self.total))
        draws = sample_frames(len(self.frames), resamples, seed)
        replicates = _to_numpy(
            measures.mean_iou(torch.from_numpy(resample(self.confusions, draws)))
        )
        speaking = np.array([(self.confusions.sum(axis=(1, 2)) > 0).sum()])
        interval = estimate_intervals(miou.reshape(1, 1), replicates[None, :, None], speaking).clip(
            0, 1
        )
        return {
            "miou": to_json_number(miou),
            "miou_low": to_json_number(interval.low[0]),
            "miou_high": to_json_number(interval.high[0]),
            "pixel_accuracy": to_json_number(measures.pixel_accuracy(self.total)),
            "category_miou": to_json_number(measures.category_iou(self.total).nanmean()),
            "frames": len(self.frames),
        }

    def class_iou(self) -> list[float | None]:
        """Return the IoU of each class over the whole set; None where it never occurs."""
        return [to_json_number(iou) for iou in compute_class_iou(self.total)]

    def per_class(self) -> pd.DataFrame:
        """A row per class: class, train_id, category, iou, truth_pixels, predicted_pixels."""
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
        """A row per frame: frame, miou (over the classes that occur in it), pixel_accuracy."""
        return pd.DataFrame(
            {
                "frame": self.frames,
                "miou": _to_numpy(measures.mean_iou(self.confusions)),
                "pixel_accuracy": _to_numpy(measures.pixel_accuracy(self.confusions)),
            }
        )

    def summarize(self, metrics: dict[str, float | None]) -> str:
        """Return the result in words, with the interval and the protocol."""
        miou, low, high = (metrics[name] for name in ("miou", "miou_low", "miou_high"))
        if miou is None:
            return f"mIoU is undefined: no pixel is labelled ({self.protocol})"
        between = "no interval from one frame"
        if low is not None and high is not None:
            between = f"{100 * CONFIDENCE_LEVEL:.0f} % interval {format_percent(low)} to {format_percent(high)}"
        return f"mIoU {format_percent(miou)} %, {between} ({self.protocol})"


def to_json_number(value: object) -> float | None:
    """A fraction as JSON takes it: six digits, None for nan."""
    fraction = float(value)  # type: ignore[arg-type]
    return None if np.isnan(fraction) else round(fraction, 6)


def compute_class_iou(confusion: NDArray[np.int64] | Floats) -> Floats:
    """(..., k, k) pixels, or sums of them drawn by the bootstrap -> (..., k); nan where absent."""
    return _to_numpy(measures.class_iou(torch.from_numpy(confusion)))


def _to_numpy(values: torch.Tensor) -> Floats:
    return np.asarray(values.numpy(), dtype=np.float64)


def write_score_table(path: Path, table: pd.DataFrame, protocol: str) -> None:
    """Write a table of scores; its first column is the protocol, numbers have six digits."""
    rows = table.copy()
    rows.insert(0, "protocol", protocol)
    rows.to_csv(path, index=False, float_format="%.6f")
