"""Predictions kept as the official script and the test server read them: label ids, full size."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from pipeline.submission import encode_label_ids, prediction_file_name

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
