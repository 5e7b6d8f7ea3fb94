"""A trained network, and what it sees in a photograph, at the photograph's own size."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from segformer.cityscapes import NUM_CLASSES
from segformer.data.resize import resize_image
from segformer.inference.score_resizing import Prediction
from segformer.inference.settings import InferenceSettings
from segformer.inference.sliding_window import predict
from segformer.model.segformer import SegFormer
from segformer.weights.checkpoint import load


class Predictor:
    """Shows photographs to a network.

    Args:
        network: on the device to use.
        settings: how.
    """

    def __init__(self, network: SegFormer, settings: InferenceSettings) -> None:
        self._network = network
        self._settings = settings
        self._device = next(network.parameters()).device

    def predict(self, photograph: NDArray[np.uint8]) -> Prediction:
        """(h, w, 3) uint8 RGB -> classes and confidence, (h, w), on the network's device."""
        own = photograph.shape[0], photograph.shape[1]
        # Shrunk as `pack` does it for training; the scores, not the labels, are brought to size.
        shown = [resize_image(photograph, size) for size in self._settings.input_sizes(own)]
        return predict(
            self._network,
            [torch.tensor(picture, device=self._device) for picture in shown],
            output_size=own,
            windows=self._settings.windows,
            flip=self._settings.flip,
        )

    def predict_classes(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB -> (h, w) uint8 train ids."""
        return np.asarray(self.predict(photograph).classes.cpu().numpy(), dtype=np.uint8)


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
