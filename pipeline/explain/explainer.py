"""What an explainer is: from a photograph to maps, with the words and colors of their pictures."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.explain.maps import HeadMaps
from pipeline.explain.panels import Mark, Size
from pipeline.explain.scale import ColorScale
from segformer.data.packed_frames import normalize
from segformer.data.resize import resize_image
from segformer.inference.score_resizing import resize_and_argmax
from segformer.inference.trained_model import TrainedModel


@dataclass(frozen=True)
class Explanation:
    """The maps of one photograph.

    Attributes:
        maps: one per panel; None if the query does not occur.
        mark: the query in the photograph.
        classes: (h, w) uint8 train ids of the same forward pass; None without a decoder.
        note: why there are no maps, in a few words.
    """

    maps: HeadMaps | None
    mark: Mark | None = None
    classes: NDArray[np.uint8] | None = None
    note: str = ""


class Explainer(Protocol):
    """What is drawn, and its words.

    Attributes:
        title: of all pictures.
        subtitle: the model, and what the numbers are.
        names: of the maps, in order.
    """

    title: str
    subtitle: str
    names: tuple[str, ...]

    def explain(self, photograph: NDArray[np.uint8]) -> Explanation:
        """Compute the maps of (h, w, 3) uint8 RGB.

        Raises:
            ValueError: for a pixel outside the photograph, or one that is too small.
        """

    def fit_scale(self, values: NDArray[np.float32]) -> ColorScale:
        """The color scale that covers values of maps."""

    def make_scale(self, limit: float) -> ColorScale:
        """The color scale that ends at a value."""


def prepare_input(model: TrainedModel, photograph: NDArray[np.uint8]) -> Tensor:
    """Bring (H, W, 3) uint8 RGB to the network's input, (3, h, w) normalized, on its device."""
    settings = model.predictor.settings
    size = settings.size or (photograph.shape[0], photograph.shape[1])
    resized = resize_image(photograph, size, antialias=settings.resize == "antialias")
    device = next(model.predictor.network.parameters()).device
    return normalize(torch.tensor(resized)[None].to(device))[0]


def find_classes(scores: Tensor, size: Size) -> NDArray[np.uint8]:
    """(k, h, w) scores -> (*size,) uint8 train ids."""
    return np.asarray(resize_and_argmax(scores, size).cpu().numpy(), dtype=np.uint8)
