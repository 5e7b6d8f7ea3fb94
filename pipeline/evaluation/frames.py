"""The frames that are scored: photograph, truth and instances, decoded ahead of their need."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset import png
from pipeline.dataset.archive import TRAIN_IDS, Archive, member_name
from pipeline.dataset.splits import TEST, VAL
from pipeline.parallel import cpu_count
from segformer.data.prefetch import prefetch

INSTANCE_IDS = "gtFine_instanceIds"

_MAX_THREADS = 4
"""At most; each has about 20 MB of pixels under way at 1024x2048."""


@dataclass(frozen=True)
class Frame:
    """One frame's pixels.

    Attributes:
        key: of the frame.
        photograph: (h, w, 3) uint8 RGB.
        labels: (h, w) uint8 train ids.
        instance_ids: (h, w) uint16 as an instanceIds PNG holds them; None where there are none.
    """

    key: str
    photograph: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instance_ids: NDArray[np.uint16] | None


class FrameReader:
    """Decodes frames.

    Args:
        keys: n frames.
        photographs: leftImg8bit.
        label_maps: labels.zip of `remap`.
        ground_truth: gtFine, for the instances.

    Raises:
        ValueError: if some of the frames have an instanceIds PNG and others have none.
    """

    def __init__(
        self, keys: Sequence[str], photographs: Archive, label_maps: Archive, ground_truth: Archive
    ) -> None:
        self._keys = keys
        self._photographs = photographs
        self._label_maps = label_maps
        self._ground_truth = ground_truth
        self._instances = ground_truth.members(INSTANCE_IDS)
        missing = [key for key in keys if key not in self._instances]
        if 0 < len(missing) < len(keys):
            raise ValueError(
                f"{ground_truth.path}: {len(missing)} of {len(keys)} frames have no instanceIds PNG"
                f" (first: {missing[0]}); fetch the ground truth again, or take all of them away"
            )
        self._has_instances = not missing

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, key: str) -> Frame:
        """Decode one frame.

        Raises:
            ValueError: naming the file, if a picture is missing, damaged, or of another size.
        """
        photograph = self._photographs.open_photograph(key)
        labels = self._label_maps.open_labels(member_name(key, TRAIN_IDS))
        instances = self._read_instance_ids(key) if self._has_instances else None
        for what, one in (("photograph", photograph), ("instanceIds PNG", instances)):
            if one is not None and one.shape[:2] != labels.shape:
                raise ValueError(
                    f"{key}: the {what} is {one.shape[:2]} pixels, the label map {labels.shape};"
                    " repeat remap"
                )
        return Frame(key, photograph, labels, instances)

    def prefetch(self) -> Iterator[Frame]:
        """All frames in order; the next ones are decoded while the caller works."""
        threads = min(cpu_count(), _MAX_THREADS)
        frames = prefetch(self._read_at, 0, ahead=threads + 1, threads=threads)
        for frame in islice(frames, len(self._keys)):
            assert frame is not None
            yield frame
        frames.close()

    def _read_at(self, index: int) -> Frame | None:
        return self.read(self._keys[index]) if index < len(self._keys) else None

    def _read_instance_ids(self, key: str) -> NDArray[np.uint16]:
        name = self._instances[key].name
        where = f"{self._ground_truth.path}: {name}"
        picture = png.decode(self._ground_truth.read(name), "I;16", where)
        return np.asarray(picture, dtype=np.uint16)


def select_scored_rows(path: Path) -> pd.DataFrame:
    """Rows of frames.csv that give the final number: of the split test, or of val without one.

    Raises:
        ValueError: if there is neither.
    """
    table = pd.read_csv(path)
    for split in (TEST, VAL):
        chosen = table[table["split"] == split]
        if not chosen.empty:
            return chosen
    raise ValueError(f"{path}: no frame is of the split test or val; see remap.split")
