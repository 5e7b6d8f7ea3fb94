"""Attention of a block as maps over the photograph, in multiples of uniform attention."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segformer.explain.attention_maps import AttentionRecord
from segformer.explain.places import Place


@dataclass(frozen=True)
class HeadMaps:
    """One map per head.

    Attributes:
        values: (a, rows, columns) float32, 0 or more.
        coverage: the height and the width of the grid, in heights and widths of the photograph,
            from its top left corner. Below 1 where the last pixels are in no key.
    """

    values: NDArray[np.float32]
    coverage: tuple[float, float] = (1.0, 1.0)


def looks_at_maps(
    record: AttentionRecord, place: Place | None, *, stage: int, block: int = -1
) -> HeadMaps:
    """Where a place looks: the attention weight of each key, as a multiple of uniform attention.

    See `AttentionRecord.looks_at` for arguments and errors.
    """
    weights = record.looks_at(place, stage=stage, block=block).cpu().numpy()
    layer = record.block(stage, block)
    extent = tuple(side * layer.key_stride for side in layer.key_size)
    return HeadMaps(weights * weights[0].size, _coverage(extent, record.image_size))


def looked_at_maps(
    record: AttentionRecord, place: Place, *, stage: int, block: int = -1
) -> HeadMaps:
    """Who looks at a place: its attention weight for each query, as a multiple of uniform.

    See `AttentionRecord.looked_at` for arguments and errors.
    """
    values = record.looked_at(place, stage=stage, block=block).cpu().numpy()
    layer = record.block(stage, block)
    extent = tuple(side * layer.query_stride for side in layer.query_size)
    return HeadMaps(values, _coverage(extent, record.image_size))


def _coverage(extent: tuple[int, ...], image_size: tuple[int, int]) -> tuple[float, float]:
    rows, columns = (side / whole for side, whole in zip(extent, image_size, strict=True))
    return rows, columns
