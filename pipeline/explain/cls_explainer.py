"""Explains a photograph by the attention of a plain ViT's CLS token."""

import numpy as np
from numpy.typing import NDArray

from pipeline.explain.dino import cls_maps
from pipeline.explain.explainer import Explanation
from pipeline.explain.maps import HeadChoice, HeadMaps, check_head, name_heads, select_heads
from pipeline.explain.panels import Size
from pipeline.explain.scale import ColorScale, fit_scale
from segformer.vit.model import VisionTransformer

MAX_PATCHES = 4096
"""Patches of a photograph by default: the attention of a plain ViT grows with their square."""


class ClsExplainer:
    """The attention of the CLS token in the last block of a plain ViT.

    Args:
        name: of the model, for the subtitle.
        network: the model.
        size: rows and columns of its input; None for the photograph's own, shrunk to MAX_PATCHES.
        head: which.

    Attributes:
        name: of the model.
        block: the number of the last block; beside them those of `Explainer`.

    Raises:
        ValueError: for a head that the model does not have.
    """

    def __init__(
        self,
        name: str,
        network: VisionTransformer,
        *,
        size: Size | None = None,
        head: HeadChoice = "all",
    ) -> None:
        heads = network.variant.heads
        check_head(head, heads, name)
        self._network = network
        self._size = size
        self._head = head
        self.name = name
        self.block = network.variant.depth - 1
        self.names = name_heads(head, heads)
        self.title = "Where the CLS token looks"
        self.subtitle = f"{name}, last block"

    def explain(self, photograph: NDArray[np.uint8]) -> Explanation:
        """See `Explainer.explain`."""
        weights = self.compute_weights(photograph)
        maps = HeadMaps(weights * weights[0].size)
        return Explanation(select_heads(maps, self._head))

    def compute_weights(self, photograph: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) uint8 RGB -> (a, rows, columns), as `cls_maps`, of all heads."""
        size = self._size or limit_patches(photograph.shape[:2], self._network.variant.patch)
        return cls_maps(self._network, photograph, size=size)

    def fit_scale(self, values: NDArray[np.float32]) -> ColorScale:
        """See `Explainer.fit_scale`."""
        return fit_scale(values)

    def make_scale(self, limit: float) -> ColorScale:
        """See `Explainer.make_scale`."""
        return ColorScale(limit)


def limit_patches(photograph_size: tuple[int, ...], patch: int) -> Size:
    """Shrink a size, if needed, to about MAX_PATCHES patches."""
    height, width = photograph_size
    shrink = min(1.0, (MAX_PATCHES * patch**2 / (height * width)) ** 0.5)
    return max(1, round(height * shrink)), max(1, round(width * shrink))
