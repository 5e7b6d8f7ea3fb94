"""Counts, from PNGs alone, what the official script counts: in threads, since reading is most."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.pictures import decode
from pipeline.processors import cpu_count
from segformer.runs import count_label_ids


def count_pngs(
    predictions: Sequence[Path], truths: Sequence[Path], *, mode: str
) -> tuple[Tensor, Tensor]:
    """Count all frames together.

    Args:
        predictions: a PNG of label ids per frame.
        truths: its instanceIds PNG, or its labelIds PNG where no instances are annotated.
        mode: of the latter, `I;16` or `L`.

    Returns:
        (19, 21) int64 and (10, 2) float64, see `segformer.runs`.

    Raises:
        ValueError: naming the file, if one cannot be read or holds what it should not.
    """

    def counted(prediction: Path, truth: Path) -> tuple[Tensor, Tensor]:
        told, seen = (
            np.asarray(decode(path.read_bytes(), kind, str(path)))
            for path, kind in ((prediction, "L"), (truth, mode))
        )
        try:
            return count_label_ids(told, seen)
        except ValueError as mistake:
            raise ValueError(f"{prediction}: {mistake}") from None

    with ThreadPoolExecutor(cpu_count()) as pool:
        frames = list(pool.map(counted, predictions, truths))
    confusion, instances = frames[0]
    for more in frames[1:]:
        confusion, instances = confusion + more[0], instances + more[1]
    return confusion, instances
