"""A trained network, and what it sees in a photograph, at the photograph's own size."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.showing import Showing
from segformer.checkpoint import load
from segformer.cityscapes import NUM_CLASSES
from segformer.looking import look
from segformer.model import SegFormer
from segformer.resize import resize_image
from segformer.score_bands import Seen


class Predictor:
    """Shows photographs to a network.

    Args:
        network: on the device to use.
        showing: how.
    """

    def __init__(self, network: SegFormer, showing: Showing) -> None:
        self._network = network
        self._showing = showing
        self._device = next(network.parameters()).device

    def seen(self, photograph: NDArray[np.uint8]) -> Seen:
        """(h, w, 3) uint8 RGB -> classes and confidence, (h, w), on the network's device."""
        own = photograph.shape[0], photograph.shape[1]
        # Shrunk as `pack` does it for training; the scores, not the labels, are brought to size.
        shown = [resize_image(photograph, size) for size in self._showing.sizes(own)]
        return look(
            self._network,
            [torch.tensor(picture, device=self._device) for picture in shown],
            output_size=own,
            windows=self._showing.windows,
            flip=self._showing.flip,
        )

    def classes(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB -> (h, w) uint8 train ids."""
        return np.asarray(self.seen(photograph).classes.cpu().numpy(), dtype=np.uint8)


def load_network(folder: Path) -> SegFormer:
    """Load what `train` wrote, onto the GPU if there is one.

    Raises:
        ValueError: for a model of other classes than Cityscapes has.
    """
    network = load(folder, "cuda" if torch.cuda.is_available() else "cpu")
    if network.num_classes != NUM_CLASSES:
        raise ValueError(
            f"{folder}: the model knows {network.num_classes} classes, but frames are labelled with"
            f" the {NUM_CLASSES} of Cityscapes: train with num_classes={NUM_CLASSES}"
        )
    return network
