"""Predictions kept as the official script and the test server read them: label ids, full size."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.dataset.png import encode
from segformer.cityscapes import CLASSES, NUM_CLASSES

TABLE_FILE = "frames.csv"


class SavedPrediction(NamedTuple):
    """A frame and its file."""

    frame: str
    file: str


class PredictionWriter:
    """Writes a PNG per frame, and a table of them, which is there even if no frame is wanted.

    Args:
        folder: a new folder.
        is_enabled: whether PNGs are written.
    """

    def __init__(self, folder: Path, *, is_enabled: bool) -> None:
        folder.mkdir()
        self._folder = folder
        self._is_enabled = is_enabled
        self._written: list[SavedPrediction] = []

    def add(self, key: str, classes: Tensor) -> None:
        """Keep the prediction of a frame, (h, w) uint8 train ids."""
        if self._is_enabled:
            name = prediction_file_name(key)
            (self._folder / name).write_bytes(encode_label_ids(classes.cpu().numpy()))
            self._written.append(SavedPrediction(key, name))

    def close(self) -> None:
        """Write the table of what was kept."""
        table = pd.DataFrame(self._written, columns=list(SavedPrediction._fields))
        table.to_csv(self._folder / TABLE_FILE, index=False)


def list_saved_paths(folder: Path, keys: Sequence[str]) -> list[Path]:
    """The PNG of every frame, in order.

    Raises:
        ValueError: if predictions were not kept.
    """
    if not (folder / TABLE_FILE).is_file():
        raise ValueError(f"{folder / TABLE_FILE} is missing: evaluate again")
    files = dict(pd.read_csv(folder / TABLE_FILE).itertuples(index=False, name=None))
    if list(files) != list(keys):
        raise ValueError(
            f"{folder} keeps the predictions of {len(files)} of {len(keys)} frames: set"
            " evaluate.save_predictions to true and run `dvc repro`"
        )
    return [folder / files[key] for key in keys]


_LABEL_ID_BY_TRAIN_ID = np.array([label.label_id for label in CLASSES], dtype=np.uint8)


def prediction_file_name(key: str) -> str:
    """`berlin_000000_000019_pred_labelIds.png`, of the frame `test/berlin/berlin_000000_000019`.

    The official script finds a prediction by the beginning of its name.
    """
    return f"{key.rpartition('/')[2]}_pred_labelIds.png"


def encode_label_ids(train_ids: NDArray[np.uint8]) -> bytes:
    """(h, w) uint8 train ids, 0..18 -> an 8 bit grey PNG of label ids, 7..33.

    Raises:
        ValueError: for another id.
    """
    if train_ids.size and train_ids.max() >= NUM_CLASSES:
        raise ValueError(
            f"a prediction holds the class {train_ids.max()}; allowed are 0 to {NUM_CLASSES - 1}"
        )
    return encode(Image.fromarray(_LABEL_ID_BY_TRAIN_ID[train_ids]))
