"""Predictions kept as the official script and the test server read them: label ids, full size."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from pipeline.submission import label_ids_png, prediction_name

TABLE = "frames.csv"


class Prediction(NamedTuple):
    """A frame and its file."""

    frame: str
    file: str


class Predictions:
    """Writes a PNG per frame, and a table of them, which is there even if no frame is wanted.

    Args:
        folder: a new folder.
        is_wanted: whether PNGs are written.
    """

    def __init__(self, folder: Path, *, is_wanted: bool) -> None:
        folder.mkdir()
        self._folder = folder
        self._is_wanted = is_wanted
        self._written: list[Prediction] = []

    def add(self, key: str, classes: Tensor) -> None:
        """Keep the prediction of a frame, (h, w) uint8 train ids."""
        if self._is_wanted:
            name = prediction_name(key)
            (self._folder / name).write_bytes(label_ids_png(classes.cpu().numpy()))
            self._written.append(Prediction(key, name))

    def close(self) -> None:
        """Write the table of what was kept."""
        table = pd.DataFrame(self._written, columns=list(Prediction._fields))
        table.to_csv(self._folder / TABLE, index=False)


def kept(folder: Path, keys: Sequence[str]) -> list[Path]:
    """The PNG of every frame, in order.

    Raises:
        ValueError: if predictions were not kept.
    """
    if not (folder / TABLE).is_file():
        raise ValueError(f"{folder / TABLE} is missing: evaluate again")
    files = dict(pd.read_csv(folder / TABLE).itertuples(index=False, name=None))
    if list(files) != list(keys):
        raise ValueError(
            f"{folder} keeps the predictions of {len(files)} of {len(keys)} frames: set"
            " evaluate.save_predictions to true and run `dvc repro`"
        )
    return [folder / files[key] for key in keys]
