"""Count what is scored on each frame, and compute the scores other than IoU from the sums."""

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
from pipeline.evaluation.npz import open_npz
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
"""Rows whose calibration is counted at a time; counting takes about 60 bytes per pixel."""


class FrameCounts(NamedTuple):
    """One frame: (19, 19) and (19, 2) int64, (15, 3) float64, and (10, 2) float64 or None."""

    confusion: Tensor
    boundary: Tensor
    calibration: Tensor
    instances: Tensor | None


def count_frame(prediction: Prediction, frame: Frame) -> FrameCounts:
    """Count one frame on the device of the prediction, and return the counts on the CPU.

    Raises:
        ValueError: for an invalid label or instance id.
    """
    predicted = prediction.classes[None]
    truth = torch.tensor(frame.labels, device=predicted.device)[None]
    maps = (prediction.confidence[None], predicted, truth)
    # The sums are exact, so that counting in bands gives the same bits.
    bands = (values.split(_BAND_ROWS, dim=1) for values in maps)
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
    """The counts of n frames.

    Attributes:
        confusions: (n, 19, 19) int64, see `pipeline.evaluation.scores`.
        boundaries: (n, 19, 2) int64, see `segformer.metrics.boundary`.
        calibrations: (n, 15, 3) float64, see `segformer.metrics.calibration`.
        instances: (n, 10, 2) float64, see `segformer.metrics.instances`; None without annotated
            instances.
    """

    confusions: NDArray[np.int64]
    boundaries: NDArray[np.int64]
    calibrations: Floats
    instances: Floats | None

    @classmethod
    def from_frames(cls, counts: Sequence[FrameCounts]) -> Self:
        """Stack the counts of frames."""
        instances = [frame.instances for frame in counts if frame.instances is not None]
        return cls(
            torch.stack([frame.confusion for frame in counts]).numpy(),
            torch.stack([frame.boundary for frame in counts]).numpy(),
            torch.stack([frame.calibration for frame in counts]).numpy(),
            torch.stack(instances).numpy() if instances else None,
        )

    @classmethod
    def load(cls, path: Path, confusions: NDArray[np.int64]) -> Self:
        """Read a file written by `save`.

        Raises:
            ValueError: naming the file, if it is missing, damaged or of other frames.
        """
        with open_npz(path) as arrays:
            boundaries, calibrations = arrays["boundaries"], arrays["calibrations"]
            instances = arrays.get("instances")
        if len(boundaries) != len(confusions):
            raise ValueError(
                f"{path} has {len(boundaries)} frames, the confusions have {len(confusions)}:"
                " evaluate again"
            )
        return cls(
            confusions,
            np.asarray(boundaries, dtype=np.int64),
            np.asarray(calibrations, dtype=np.float64),
            None if instances is None else np.asarray(instances, dtype=np.float64),
        )

    def save(self, path: Path) -> None:
        """Write all counts but the confusions; the same counts give the same bytes."""
        arrays = {"boundaries": self.boundaries, "calibrations": self.calibrations}
        if self.instances is not None:
            arrays["instances"] = self.instances
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]

    def metrics(self) -> dict[str, float | None]:
        """Score the whole set, in fractions of 1 to six digits; None where undefined."""
        return {
            "instance_iou": to_json_number(nanmean(self.instance_iou())),
            "category_instance_iou": to_json_number(nanmean(self.category_instance_iou())),
            "boundary_iou": to_json_number(nanmean(self.boundary_iou())),
            "ece": to_json_number(expected_calibration_error(self.calibrations.sum(0))),
        }

    def instance_iou(self) -> Floats:
        """Return (8,), the iIoU of INSTANCE_CLASSES; nan where undefined."""
        return self._score_instances(instance_iou, len(INSTANCE_CLASSES))

    def category_instance_iou(self) -> Floats:
        """Return (2,), the iIoU of INSTANCE_CATEGORIES; nan where undefined."""
        return self._score_instances(category_instance_iou, 2)

    def boundary_iou(self) -> Floats:
        """Return (19,), the boundary IoU of the classes; nan where absent."""
        return np.asarray(boundary_iou(self.boundaries.sum(0)))

    def per_class(self) -> pd.DataFrame:
        """Rows per class: instance_iou (nan for classes without instances), boundary_iou."""
        names = [label.name for label in INSTANCE_CLASSES]
        iou = dict(zip(names, self.instance_iou(), strict=True))
        return pd.DataFrame(
            {
                "instance_iou": [iou.get(name, np.nan) for name in CLASS_NAMES],
                "boundary_iou": self.boundary_iou(),
            }
        )

    def per_image(self) -> pd.DataFrame:
        """Return a row per frame: boundary_iou (over the classes that occur in it), ece."""
        return pd.DataFrame(
            {
                "boundary_iou": boundary_iou(self.boundaries).nanmean(-1).numpy(),
                "ece": expected_calibration_error(self.calibrations).numpy(),
            }
        )

    def reliability(self) -> pd.DataFrame:
        """Return a row per bin of confidence: lower, upper, pixels, confidence, accuracy."""
        table = reliability(self.calibrations.sum(0))
        return pd.DataFrame({name: column.numpy() for name, column in vars(table).items()})

    def _score_instances(self, score: Callable[[Floats, Confusion], Tensor], size: int) -> Floats:
        if self.instances is None:
            return np.full(size, np.nan)
        return np.asarray(score(self.instances.sum(0), self.confusions.sum(0)))


def nanmean(values: Floats) -> float:
    """Return the mean without nan, as the official script does; nan if all values are nan."""
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if valid.size else float("nan")
