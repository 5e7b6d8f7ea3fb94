"""What is counted on each frame, and the scores beside IoU that follow from the sums."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluation.bootstrap import Floats
from pipeline.evaluation.frames import Frame
from pipeline.evaluation.scores import to_json_number
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from segformer.inference.score_resizing import Prediction
from segformer.metrics.boundary import boundary_counts, boundary_iou
from segformer.metrics.calibration import (
    calibration_counts,
    expected_calibration_error,
    reliability,
)
from segformer.metrics.confusion import Confusion, confusion_matrix
from segformer.metrics.instances import (
    INSTANCE_CLASSES,
    category_instance_iou,
    count_instances,
    instance_iou,
)

_BAND_ROWS = 128
"""Rows whose calibration is counted at a time: some 60 bytes per pixel are needed meanwhile."""


class FrameCounts(NamedTuple):
    """One frame's: (19, 19) and (19, 2) int64, (15, 3) float64, and (10, 2) float64 or None."""

    confusion: Tensor
    boundary: Tensor
    calibration: Tensor
    instances: Tensor | None


def count_frame(prediction: Prediction, frame: Frame) -> FrameCounts:
    """Count one frame, on the device of what was seen; the counts are on the CPU.

    Raises:
        ValueError: for a label or an instance that is none.
    """
    predicted = prediction.classes[None]
    truth = torch.tensor(frame.labels, device=predicted.device)[None]
    bands = (
        one.split(_BAND_ROWS, dim=1) for one in (prediction.confidence[None], predicted, truth)
    )  # sums are exact, so that bands change no bit of them
    calibration = torch.stack([calibration_counts(*band) for band in zip(*bands, strict=True)])
    instances = None
    if frame.instance_ids is not None:
        instances = count_instances(prediction.classes, frame.instance_ids)
    return FrameCounts(
        confusion_matrix(predicted, truth, NUM_CLASSES).cpu(),
        boundary_counts(predicted, truth, NUM_CLASSES).cpu(),
        calibration.sum(0).cpu(),
        instances,
    )


@dataclass(frozen=True)
class DatasetCounts:
    """What was counted on n frames beside the confusions.

    Attributes:
        confusions: (n, 19, 19) int64, see `pipeline.evaluation.scores`.
        boundaries: (n, 19, 2) int64, see `segformer.metrics.boundary`.
        calibrations: (n, 15, 3) float64, see `segformer.metrics.calibration`.
        instances: (n, 10, 2) float64, see `segformer.metrics.instances`; None where none are annotated.
    """

    confusions: NDArray[np.int64]
    boundaries: NDArray[np.int64]
    calibrations: Floats
    instances: Floats | None

    @classmethod
    def from_frames(cls, counts: Sequence[FrameCounts]) -> Self:
        """Put the counts of frames together."""
        known = [frame.instances for frame in counts if frame.instances is not None]
        return cls(
            torch.stack([frame.confusion for frame in counts]).numpy(),
            torch.stack([frame.boundary for frame in counts]).numpy(),
            torch.stack([frame.calibration for frame in counts]).numpy(),
            torch.stack(known).numpy() if known else None,
        )

    @classmethod
    def load(cls, path: Path, confusions: NDArray[np.int64]) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: naming the file, if it is missing, damaged or of other frames.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
                instances = held.get("instances")
                counts = cls(confusions, held["boundaries"], held["calibrations"], instances)
        except FileNotFoundError:
            raise ValueError(f"{path} is missing: evaluate again") from None
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no counts ({error}): evaluate again") from None
        if len(counts.boundaries) != len(confusions):
            raise ValueError(f"{path} is of other frames than the confusions: evaluate again")
        return counts

    def save(self, path: Path) -> None:
        """Write all but the confusions; the same bytes for the same counts."""
        held = {"boundaries": self.boundaries, "calibrations": self.calibrations}
        if self.instances is not None:
            held["instances"] = self.instances
        np.savez_compressed(path, **held)  # type: ignore[arg-type]

    def metrics(self) -> dict[str, float | None]:
        """Scores of the whole set, fractions of 1 to six digits; None where undefined."""
        return {
            "instance_iou": to_json_number(nanmean(self.instance_iou())),
            "category_instance_iou": to_json_number(nanmean(self.category_instance_iou())),
            "boundary_iou": to_json_number(nanmean(self.boundary_iou())),
            "ece": to_json_number(expected_calibration_error(self.calibrations.sum(0))),
        }

    def instance_iou(self) -> Floats:
        """(8,) of INSTANCE_CLASSES; nan where undefined."""
        return self._score_instances(instance_iou, len(INSTANCE_CLASSES))

    def category_instance_iou(self) -> Floats:
        """(2,) of INSTANCE_CATEGORIES; nan where undefined."""
        return self._score_instances(category_instance_iou, 2)

    def boundary_iou(self) -> Floats:
        """(19,) of the classes; nan where absent."""
        return np.asarray(boundary_iou(self.boundaries.sum(0)))

    def per_class(self) -> pd.DataFrame:
        """A row per class: instance_iou (empty for a class without instances), boundary_iou."""
        iou = dict(zip((one.name for one in INSTANCE_CLASSES), self.instance_iou(), strict=True))
        return pd.DataFrame(
            {
                "instance_iou": [iou.get(name, np.nan) for name in CLASS_NAMES],
                "boundary_iou": self.boundary_iou(),
            }
        )

    def per_image(self) -> pd.DataFrame:
        """A row per frame: boundary_iou (over the classes that occur in it), ece."""
        return pd.DataFrame(
            {
                "boundary_iou": boundary_iou(self.boundaries).nanmean(-1).numpy(),
                "ece": expected_calibration_error(self.calibrations).numpy(),
            }
        )

    def reliability(self) -> pd.DataFrame:
        """A row per bin of confidence: lower, upper, pixels, confidence, accuracy."""
        table = reliability(self.calibrations.sum(0))
        return pd.DataFrame({name: column.numpy() for name, column in vars(table).items()})

    def _score_instances(self, score: Callable[[Floats, Confusion], Tensor], size: int) -> Floats:
        if self.instances is None:
            return np.full(size, np.nan)
        return np.asarray(score(self.instances.sum(0), self.confusions.sum(0)))


def nanmean(values: Floats) -> float:
    """Over what is not nan, as the official script does; nan if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
