"""The best arm, and scored frames as its network receives them in evaluation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.archive import TRAIN_IDS, Archive, member_name
from pipeline.evaluation.frames import select_scored_rows
from segformer.data.resize import resize_image, resize_labels
from segformer.inference.settings import InferenceSettings, Size


@dataclass(frozen=True)
class InputFrame:
    """One frame at the size of the network's input.

    Attributes:
        key: the key of the frame.
        photograph: (h, w, 3) uint8 RGB.
        labels: (h, w) uint8 train ids.
    """

    key: str
    photograph: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def select_best_arm(evaluations: Path, arms: Sequence[str]) -> tuple[str, str]:
    """Return the arm of the highest mIoU, the first by name of several, and its protocol.

    Args:
        evaluations: the output folder of `evaluate`, with a folder per arm.
        arms: the names of the arms.

    Raises:
        ValueError: if an evaluation is missing or damaged, or two have different protocols.
    """
    metrics = {arm: _read_metrics(evaluations / arm) for arm in sorted(arms)}
    protocols = {arm: values["protocol"] for arm, values in metrics.items()}
    first = min(protocols)
    for arm, protocol in protocols.items():
        if protocol != protocols[first]:
            raise ValueError(
                f"{evaluations}: {first} and {arm} have different protocols, {protocols[first]} and"
                f" {protocol}; bring all arms up to date with `dvc repro`"
            )
    # mIoU is None where no class occurs.
    best = max(metrics, key=lambda arm: -1.0 if (miou := metrics[arm]["miou"]) is None else miou)
    return best, protocols[best]


def select_frames(frames: Path, number: int) -> list[str]:
    """Return the keys of scored frames, spread evenly over all of them; all if there are fewer.

    Args:
        frames: frames.csv of `remap`.
        number: of frames.

    Raises:
        ValueError: if there is no frame to score.
    """
    keys = select_scored_rows(frames)["frame"].tolist()
    selected = np.linspace(0, len(keys) - 1, min(number, len(keys))).round().astype(int)
    return [keys[i] for i in selected.tolist()]


def read_frame(
    key: str, photographs: Archive, label_maps: Archive, settings: InferenceSettings
) -> InputFrame:
    """Decode a frame and bring it to the size of the network's input.

    Scales and mirroring of the evaluation are left out. Of sliding windows it is the one in the
    middle of the frame.

    Args:
        key: the key of the frame.
        photographs: the leftImg8bit package.
        label_maps: labels.zip of `remap`.
        settings: how the frame is evaluated.

    Raises:
        ValueError: naming the file, if a picture is missing, damaged, or of another size.
    """
    photograph = photographs.open_photograph(key)
    labels = label_maps.open_labels(member_name(key, TRAIN_IDS))
    if photograph.shape[:2] != labels.shape:
        raise ValueError(
            f"{key}: the photograph has {photograph.shape[:2]} pixels, its label map"
            f" {labels.shape}; run `dvc repro --force remap`"
        )
    size = settings.size or (labels.shape[0], labels.shape[1])
    rows, columns = _middle_window(size, settings.windows)
    return InputFrame(
        key,
        resize_image(photograph, size)[rows, columns],
        resize_labels(labels, size)[rows, columns],
    )


def _read_metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {name: values[name] for name in ("miou", "protocol")}
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro evaluate@{folder.name}`") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} is damaged: run `dvc repro --force evaluate@{folder.name}`"
        ) from None


def _middle_window(size: Size, windows: tuple[Size, Size] | None) -> tuple[slice, slice]:
    """The rows and columns of the window in the middle; all of them without windows."""
    sides = [min(pair) for pair in zip(size, windows[0], strict=True)] if windows else size
    starts = [(whole - side) // 2 for whole, side in zip(size, sides, strict=True)]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return rows, columns
