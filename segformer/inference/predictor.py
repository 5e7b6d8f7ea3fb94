"""Predicts the classes of an image with a network and its inference settings."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segformer.data.resize import resize_image
from segformer.inference.score_resizing import Prediction
from segformer.inference.settings import InferenceSettings, Size
from segformer.inference.sliding_window import predict
from segformer.model.segformer import SegFormer


class Predictor:
    """Predicts the classes of images.

    Args:
        network: on the device to use.
        settings: input size, windows, flip, scales and resize filter.

    Attributes: as the arguments, and `num_classes`.
    """

    def __init__(self, network: SegFormer, settings: InferenceSettings) -> None:
        self.settings = settings
        self.num_classes = network.num_classes
        self.network = network
        self._device = next(network.parameters()).device

    def predict(self, image: NDArray[np.uint8]) -> Prediction:
        """Predict one image: (h, w, 3) uint8 RGB -> classes and confidence, (h, w) each.

        The image is brought to the input size, as `pack` does for training; the scores are brought
        to the image's size. Both results lie on the network's device.

        Raises:
            ValueError: if the image is too small for the network.
        """
        size = image.shape[0], image.shape[1]
        inputs = [self._resize(image, input_size) for input_size in self.settings.input_sizes(size)]
        return predict(
            self.network,
            [pixels.to(self._device) for pixels in inputs],
            output_size=size,
            windows=self.settings.windows,
            flip=self.settings.flip,
        )

    def predict_classes(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB -> (h, w) uint8 train ids.

        Raises:
            ValueError: if the image is too small for the network.
        """
        return np.asarray(self.predict(image).classes.cpu().numpy(), dtype=np.uint8)

    def _resize(self, image: NDArray[np.uint8], size: Size) -> Tensor:
        """(H, W, 3) uint8 -> (h, w, 3) uint8."""
        if self.settings.resize == "antialias":
            return torch.tensor(resize_image(image, size))
        pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
        resized = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        return resized[0].permute(1, 2, 0).round_().to(torch.uint8)
