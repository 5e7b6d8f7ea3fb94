"""Save predictions as the official script and the test server read them: PNGs of label ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segformer.cityscapes import CLASSES, NUM_CLASSES
from segformer.images import encode_png

TABLE_FILE = "frames.csv"

_LABEL_ID_BY_TRAIN_ID = np.array([label.label_id for label in CLASSES], dtype=np.uint8)


class SavedPrediction(NamedTuple):
    """A frame and its PNG."""

    frame: str
    file: str


class PredictionWriter:
    """Writes a PNG per frame and a table of them.

    Args:
        folder: the folder to create.
        is_enabled: whether to write PNGs; if not, the table is written without rows.
    """

    def __init__(self, folder: Path, *, is_enabled: bool) -> None:
        folder.mkdir()
        self._folder = folder
        self._is_enabled = is_enabled
        self._written: list[SavedPrediction] = []

    def add(self, key: str, classes: Tensor) -> None:
        """Save the prediction of a frame, (h, w) uint8 train ids."""
        if self._is_enabled:
            name = prediction_file_name(key)
            (self._folder / name).write_bytes(encode_label_ids(classes.cpu().numpy()))
            self._written.append(SavedPrediction(key, name))

    def close(self) -> None:
        """Write the table of saved predictions."""
        table = pd.DataFrame(self._written, columns=list(SavedPrediction._fields))
        table.to_csv(self._folder / TABLE_FILE, index=False)


def list_saved_paths(folder: Path, keys: Sequence[str]) -> list[Path]:
    """List the PNG of every frame, in order.

    Raises:
        ValueError: if not all predictions were saved.
    """
    if not (folder / TABLE_FILE).is_file():
        raise ValueError(f"{folder / TABLE_FILE} is missing: evaluate again")
    files = dict(pd.read_csv(folder / TABLE_FILE).itertuples(index=False, name=None))
    if list(files) != list(keys):
        raise ValueError(
            f"{folder} has the predictions of {len(files)} of {len(keys)} frames: set"
            " evaluate.save_predictions to true and run `dvc repro`"
        )
    return [folder / files[key] for key in keys]


def prediction_file_name(key: str) -> str:
    """Name the PNG of a frame: `berlin_000000_000019_pred_labelIds.png`.

    The official script finds a prediction by the beginning of its name, the last part of the key.
    """
    return f"{key.rpartition('/')[2]}_pred_labelIds.png"


def encode_label_ids(train_ids: NDArray[np.uint8]) -> bytes:
    """(h, w) uint8 train ids, 0..18 -> an 8-bit grayscale PNG of label ids, 7..33.

    Raises:
        ValueError: for other train ids.
    """
    if train_ids.size and train_ids.max() >= NUM_CLASSES:
        raise ValueError(
            f"the prediction has the train id {train_ids.max()}; allowed are 0 to {NUM_CLASSES - 1}"
        )
    return encode_png(Image.fromarray(_LABEL_ID_BY_TRAIN_ID[train_ids]))
