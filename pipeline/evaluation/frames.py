"""Decode the frames to score: photograph, labels and instances, ahead of their use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset.archive import TRAIN_IDS, Archive, member_name
from pipeline.dataset.splits import TEST, VAL
from pipeline.parallel import cpu_count
from segformer.data.prefetch import prefetch
from segformer.images import decode_png

INSTANCE_IDS = "gtFine_instanceIds"

_MAX_THREADS = 4
"""Upper limit; each thread holds about 20 MB of pixels at 1024x2048."""


@dataclass(frozen=True)
class Frame:
    """The pixels of one frame.

    Attributes:
        key: the key of the frame.
        photograph: (h, w, 3) uint8 RGB.
        labels: (h, w) uint8 train ids.
        instance_ids: (h, w) uint16 ids of an instanceIds PNG; None without annotated instances.
    """

    key: str
    photograph: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instance_ids: NDArray[np.uint16] | None


class FrameReader:
    """Decodes frames.

    Args:
        keys: the frames, in order.
        photographs: the leftImg8bit package.
        label_maps: labels.zip of `remap`.
        ground_truth: the gtFine package, for the instances.

    Raises:
        ValueError: if only some of the frames have an instanceIds PNG.
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
                f" (first: {missing[0]}); fetch the ground truth again, or remove all of them"
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
        for kind, pixels in (("photograph", photograph), ("instanceIds PNG", instances)):
            if pixels is not None and pixels.shape[:2] != labels.shape:
                raise ValueError(
                    f"{key}: the {kind} has {pixels.shape[:2]} pixels, its label map"
                    f" {labels.shape}; run `dvc repro --force remap`"
                )
        return Frame(key, photograph, labels, instances)

    def prefetch(self) -> Iterator[Frame]:
        """Give all frames in order; the next ones are decoded while the caller works."""
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
        location = f"{self._ground_truth.path}: {name}"
        picture = decode_png(self._ground_truth.read(name), "I;16", location)
        return np.asarray(picture, dtype=np.uint16)


def select_scored_rows(path: Path) -> pd.DataFrame:
    """Select the rows of frames.csv to score: the split test, or val if there is no test frame.

    Raises:
        ValueError: if there is no frame in either.
    """
    table = pd.read_csv(path)
    for split in (TEST, VAL):
        rows = table[table["split"] == split]
        if not rows.empty:
            return rows
    raise ValueError(f"{path}: no frame in the split test or val; see remap.split")
