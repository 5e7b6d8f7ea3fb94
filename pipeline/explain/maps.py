"""Attention of a block as maps over the photograph, in multiples of uniform attention."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segformer.explain.attention_maps import AttentionRecord
from segformer.explain.places import Place

HeadChoice = int | Literal["all", "mean"]
"""One head from 0, all of them, or the mean over them."""


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


def name_heads(head: HeadChoice, num_heads: int) -> tuple[str, ...]:
    """The names of the maps that `select_heads` leaves."""
    if head == "all":
        return tuple(f"head {index}" for index in range(num_heads))
    if head == "mean":
        return ("the only head" if num_heads == 1 else f"mean of {num_heads} heads",)
    return (f"head {head}",)


def select_heads(maps: HeadMaps, head: HeadChoice) -> HeadMaps:
    """Keep one head, or their mean."""
    if head == "all":
        return maps
    values = maps.values.mean(0, keepdims=True) if head == "mean" else maps.values[[head]]
    return HeadMaps(values, maps.coverage)


def check_head(head: HeadChoice, num_heads: int, owner: str) -> None:
    """Raise a ValueError if there is no such head of `owner`."""
    if isinstance(head, int) and not 0 <= head < num_heads:
        allowed = f"heads 0 to {num_heads - 1}" if num_heads > 1 else "head 0 only"
        raise ValueError(f"--head {head}: {owner} has {allowed}; give one of them, all or mean")


def _coverage(extent: tuple[int, ...], image_size: tuple[int, int]) -> tuple[float, float]:
    rows, columns = (side / whole for side, whole in zip(extent, image_size, strict=True))
    return rows, columns
