"""A trained model behind MLflow's pyfunc interface: encoded pictures in, a train id per pixel out.

This module is named in a logged model as its loader; MLflow itself is not needed here.
"""

import base64
import io
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from segformer.inference.segment import segment
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint

# What Pillow raises on damaged files, as seen with bytes changed at random.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error)
REQUIRED_PACKAGES = ("torch", "numpy", "pillow", "safetensors")
IMAGE_FORMATS = ("PNG", "JPEG")
_FORMAT_NAMES = " or ".join(IMAGE_FORMATS)
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's names of pictures with 8 bits a channel or less."""

MAX_PIXELS = 2**25
"""No picture may have more: 16 times a frame of Cityscapes."""


def make_example(size: tuple[int, int] | None) -> str:
    """A ramp of colours in base64, of so many rows and columns: a picture that may be passed on."""
    rows, columns = size or (64, 128)
    ramp = np.full((rows, columns, 3), 128, dtype=np.uint8)
    ramp[..., 0] = np.linspace(0, 255, columns)
    ramp[..., 1] = np.linspace(0, 255, rows)[:, None]
    return encode(ramp)


class Segmenter:
    """A model that takes pictures the way they travel: as PNG or JPEG in base64.

    Attributes:
        num_classes: how many classes it tells apart.

    Args:
        model: on the device to use.
        input_size: rows and columns at which it sees a picture; None: the picture's own.
    """

    def __init__(self, model: SegFormer, input_size: tuple[int, int] | None) -> None:
        self.num_classes = model.num_classes
        self._model = model
        self._input_size = input_size

    def predict(self, model_input: Any) -> NDArray[np.uint8]:
        """Segment pictures of one size.

        Args:
            model_input: base64 texts: a sequence of them, or a table with a column `image`.

        Returns:
            (b, h, w) uint8, a train id per pixel, at the pictures' own size.

        Raises:
            ValueError: if a picture cannot be read, or they differ in size.
        """
        pictures = [
            decode(text, f"picture {i}") for i, text in enumerate(_image_texts(model_input))
        ]
        sizes = {picture.shape[:2] for picture in pictures}
        if len(sizes) != 1:
            sizes_found = (
                ", ".join(f"{rows}x{columns}" for rows, columns in sorted(sizes)) or "none"
            )
            raise ValueError(
                f"pictures of one size are taken at once, not {sizes_found}; send each size alone"
            )
        # One by one, so that memory does not grow with the request.
        return np.stack([self.segment_image(picture) for picture in pictures])

    def segment_image(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment one picture: (h, w, 3) uint8 RGB -> (h, w) uint8, a train id per pixel.

        Raises:
            ValueError: if it is too small for the network.
        """
        device = next(self._model.parameters()).device
        size = picture.shape[0], picture.shape[1]
        images = torch.from_numpy(picture)[None].to(device)  # (1, h, w, 3)
        classes = segment(
            self._model, images, input_size=self._input_size or size, output_size=size
        )
        return np.asarray(classes[0].cpu().numpy(), dtype=np.uint8)


def requirements() -> list[str]:
    """Return the packages that are needed here, at today's versions, as pip takes them."""
    # The "+cpu" of a local build is unknown to the package index.
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIRED_PACKAGES]


def encode(picture: NDArray[np.uint8], encoding: str = "PNG") -> str:
    """Turn a picture, (h, w, 3) uint8 RGB, into the base64 text that `predict` takes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format=encoding)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode(text: str, name: str = "picture") -> NDArray[np.uint8]:
    """Turn a base64 text into (h, w, 3) uint8 RGB.

    Raises:
        ValueError: if it is no base64, or what is in it is no whole PNG or JPEG; `name` is named.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as mistake:
        raise ValueError(
            f"{name}: not base64 ({mistake}); send the file's bytes in base64"
        ) from None
    return read_picture(data, name)


def read_picture(data: bytes, name: str = "picture") -> NDArray[np.uint8]:
    """Decode a whole PNG or JPEG into (h, w, 3) uint8 RGB, turned as its EXIF entry says.

    Raises:
        ValueError: if it is none, is damaged, has more than MAX_PIXELS, or more than 8 bits a
            channel; `name` is named.
    """
    try:
        with warnings.catch_warnings():
            # Judged below, by a limit that is ours and does not change with Pillow's.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        _check_image(image)
        with image:
            # A copy, because torch wants memory it may write to.
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(
            f"{name}: no {_FORMAT_NAMES} that can be read (it begins like none)"
        ) from None
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as mistake:
        raise ValueError(f"{name}: no {_FORMAT_NAMES} that can be read ({mistake})") from None


def _check_image(image: Image.Image) -> None:
    columns, rows = image.size
    if rows * columns > MAX_PIXELS:
        raise ValueError(f"{rows} x {columns} pixels; {MAX_PIXELS} are the most, so shrink it")
    if image.mode not in IMAGE_MODES:
        raise ValueError(f"of mode {image.mode}; save it with 8 bits a channel")


def _image_texts(model_input: Any) -> Sequence[str]:
    """A table's column `image`, or the sequence itself."""
    column = model_input["image"] if hasattr(model_input, "columns") else model_input
    return [str(text) for text in column]


def load(path: Path | str, model_config: Mapping[str, Any] | None = None) -> Segmenter:
    """Load what `segformer.weights.checkpoint.save` wrote into `path`, onto the GPU if there is one.

    Args:
        path: a folder.
        model_config: `input_size`, rows and columns at which the network sees a picture; None: the
            picture's own.

    Raises:
        ValueError: if a file is missing or damaged.
    """
    size = (model_config or {}).get("input_size")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = checkpoint.load(Path(path), device)
    return Segmenter(model, (int(size[0]), int(size[1])) if size else None)
