"""A trained model behind MLflow's pyfunc interface: encoded images in, a train id per pixel out.

This module is named in a logged model as its loader; MLflow itself is not needed here.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segformer.device import best_device
from segformer.images import decode_photograph
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.weights import checkpoint

REQUIRED_PACKAGES = ("torch", "numpy", "pillow", "safetensors")


class Segmenter:
    """Predicts images that are base64-encoded PNGs or JPEGs.

    Args:
        predictor: the network with its inference settings.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any) -> NDArray[np.uint8]:
        """Predict images of one size.

        Args:
            model_input: base64 texts: a sequence of them, or a table with a column `image`.

        Returns:
            (b, h, w) uint8, a train id per pixel, at the images' own size.

        Raises:
            ValueError: if an image cannot be decoded, or they differ in size.
        """
        images = [decode(text, f"image {i}") for i, text in enumerate(_list_texts(model_input))]
        sizes = sorted({image.shape[:2] for image in images})
        if len(sizes) != 1:
            found = ", ".join(f"{rows}x{columns}" for rows, columns in sizes) or "none"
            raise ValueError(
                f"a request holds images of one size, not {found}; send each size separately"
            )
        # One by one, so that memory does not grow with the request.
        return np.stack([self._predictor.predict_classes(image) for image in images])


def load(path: Path | str, model_config: Mapping[str, Any] | None = None) -> Segmenter:
    """Load what `segformer.weights.checkpoint.save` wrote into `path`; on the GPU if there is one.

    Args:
        path: a folder.
        model_config: the inference settings, see `InferenceSettings.from_config`; None: those that
            the folder's config.json keeps.

    Raises:
        ValueError: if a file is missing or damaged.
    """
    network = checkpoint.load(Path(path), best_device())
    config = checkpoint.read_config(Path(path)) if model_config is None else model_config
    return Segmenter(Predictor(network, InferenceSettings.from_config(config)))


def list_requirements() -> list[str]:
    """The packages that are needed here, at their installed versions, as pip takes them."""
    # The package index does not know the "+cpu" of a local build.
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIRED_PACKAGES]


def encode(image: NDArray[np.uint8], encoding: str = "PNG") -> str:
    """Encode an image, (h, w, 3) uint8 RGB, as the base64 text that `predict` takes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=encoding)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode(text: str, name: str = "image") -> NDArray[np.uint8]:
    """Decode a base64 text into (h, w, 3) uint8 RGB.

    Raises:
        ValueError: naming `name`, if it is not base64, or not the whole of a PNG or JPEG.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{name}: not base64 ({error}); send the file's bytes as base64") from None
    return decode_photograph(content, name)


def make_example(size: tuple[int, int] | None) -> str:
    """A color ramp of `size` (rows, columns) as base64: an image that is free to share."""
    rows, columns = size or (64, 128)
    ramp = np.full((rows, columns, 3), 128, dtype=np.uint8)
    ramp[..., 0] = np.linspace(0, 255, columns)
    ramp[..., 1] = np.linspace(0, 255, rows)[:, None]
    return encode(ramp)


def _list_texts(model_input: Any) -> Sequence[str]:
    """A table's column `image`, or the sequence itself."""
    column = model_input["image"] if hasattr(model_input, "columns") else model_input
    return [str(text) for text in column]
