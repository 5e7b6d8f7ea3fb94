"""Explains a photograph by the attention of one block of SegFormer."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.explain.explainer import Explanation, find_classes, prepare_input
from pipeline.explain.maps import (
    HeadChoice,
    HeadMaps,
    check_head,
    looked_at_maps,
    looks_at_maps,
    name_heads,
    select_heads,
)
from pipeline.explain.panels import Mark
from pipeline.explain.queries import ClassQuery, MeanQuery, PixelQuery, Query
from pipeline.explain.scale import ColorScale, fit_scale
from segformer.explain.attention_maps import AttentionRecord, record_attention
from segformer.explain.places import Place
from segformer.inference.trained_model import TrainedModel
from segformer.model.variants import HEADS

Direction = Literal["looks-at", "looked-at"]
"""Where the query looks, or which places look at it."""


@dataclass(frozen=True)
class AttentionRequest:
    """Which attention is drawn.

    Attributes:
        query: the place.
        direction: from it, or to it.
        stage: 0, the finest, to 3.
        block: of the stage, from 0; -1 is the last.
        head: which.
    """

    query: Query
    direction: Direction = "looks-at"
    stage: int = 2
    block: int = -1
    head: HeadChoice = "all"


class AttentionExplainer:
    """The attention of one block of SegFormer.

    Args:
        model: a trained model; windows, scales and mirroring of its inference are left out.
        request: which attention.

    Attributes:
        As `Explainer`.

    Raises:
        ValueError: for a stage, block, head or class that the model does not have, or the mean of
            who looks at all places.
    """

    def __init__(self, model: TrainedModel, request: AttentionRequest) -> None:
        self._model = model
        self._request = request
        query = request.query
        if isinstance(query, MeanQuery) and request.direction == "looked-at":
            raise ValueError(
                "--query mean with --direction looked-at is 1 everywhere, since the attention of"
                " each place sums to 1: give a pixel or a class, or --direction looks-at"
            )
        self._class_id = query.find_class(model.classes) if isinstance(query, ClassQuery) else None
        block = _check_block(model, request)
        check_head(request.head, HEADS[request.stage], f"stage {request.stage}")
        self.names = name_heads(request.head, HEADS[request.stage])
        self.title = {
            "looks-at": f"Where {query.describe()} look{_verb_ending(query)}",
            "looked-at": f"Which places look at {query.describe()}",
        }[request.direction]
        if isinstance(query, MeanQuery):
            self.title += ", on average"
        self.subtitle = f"{model.name}, stage {request.stage}, block {block}"

    def explain(self, photograph: NDArray[np.uint8]) -> Explanation:
        """See `Explainer.explain`."""
        pixels = prepare_input(self._model, photograph)
        # A pixel outside the photograph is refused before the network runs.
        place: Place | None = _find_pixel(self._request.query, photograph, pixels)
        record = record_attention(self._model.predictor.network, pixels)
        classes = _predict_classes(record)
        mark: Mark | None = None
        if isinstance(self._request.query, PixelQuery):
            mark = self._request.query.center(photograph.shape[:2])
        elif self._class_id is not None:
            mark = region = np.equal(classes, self._class_id)
            place = torch.from_numpy(region)
            if not self._is_covered(region, record):
                name = self._model.classes[self._class_id]
                return Explanation(None, None, classes, f"no {name} here")
        return Explanation(self._draw_maps(record, place), mark, classes)

    def fit_scale(self, values: NDArray[np.float32]) -> ColorScale:
        """See `Explainer.fit_scale`."""
        return fit_scale(values)

    def make_scale(self, limit: float) -> ColorScale:
        """See `Explainer.make_scale`."""
        return ColorScale(limit)

    def _draw_maps(self, record: AttentionRecord, place: Place | None) -> HeadMaps:
        request = self._request
        where = {"stage": request.stage, "block": request.block}
        if request.direction == "looks-at":
            maps = looks_at_maps(record, place, **where)
        else:
            assert place is not None  # refused by the constructor
            maps = looked_at_maps(record, place, **where)
        return select_heads(maps, request.head)

    def _is_covered(self, region: NDArray[np.bool_], record: AttentionRecord) -> bool:
        """Whether the region has a pixel; to be looked at, one that lies in a key."""
        if self._request.direction == "looks-at":
            return bool(region.any())
        layer = record.block(self._request.stage, self._request.block)
        rows, columns = (side * layer.key_stride for side in layer.key_size)
        return bool(region[:rows, :columns].any())


def _predict_classes(record: AttentionRecord) -> NDArray[np.uint8]:
    """(h, w) uint8 train ids at the size of the network's input, of the recorded pass."""
    assert record.scores is not None  # recorded from a whole network
    return find_classes(record.scores, record.image_size)


def _find_pixel(
    query: Query, photograph: NDArray[np.uint8], pixels: Tensor
) -> tuple[int, int] | None:
    if not isinstance(query, PixelQuery):
        return None
    return query.locate(photograph.shape[:2], (pixels.shape[1], pixels.shape[2]))


def _check_block(model: TrainedModel, request: AttentionRequest) -> int:
    """Return the number of the block, from 0."""
    variant = model.predictor.network.encoder.variant
    if not 0 <= request.stage < len(variant.depths):
        raise ValueError(
            f"--stage {request.stage}: choose from 0, the finest, to {len(variant.depths) - 1}"
        )
    depth = variant.depths[request.stage]
    if not -depth <= request.block < depth:
        raise ValueError(
            f"--block {request.block}: stage {request.stage} of {variant.name} has blocks 0 to"
            f" {depth - 1}; -1 is the last"
        )
    return request.block % depth


def _verb_ending(query: Query) -> str:
    return "s" if isinstance(query, PixelQuery) else ""
