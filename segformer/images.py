"""The one reader of image files: PNGs and JPEGs, refused by name if damaged or unusual."""

import io
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 2**25
"""Limit for every image: 16 times a frame of Cityscapes."""

MODES_8_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes with at most 8 bits per channel."""

_MODE_DESCRIPTIONS = {"RGB": "8-bit RGB", "L": "8-bit gray", "I;16": "16-bit gray"}

# What Pillow raises on damaged files: found by changing bytes of PNGs and JPEGs at random.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error)


def decode_png(content: bytes, mode: str, location: str) -> Image.Image:
    """Decode a PNG of one mode.

    Args:
        content: the file's bytes.
        mode: Pillow's mode: `RGB` or `L`, 8 bits per channel, or `I;16`.
        location: the file, for messages.

    Raises:
        ValueError: if it is not a PNG, is damaged, has more than MAX_PIXELS, or another mode.
    """
    image = _open(content, location, ("PNG",), (mode,))
    with _explain_damage(location, ("PNG",)):
        image.load()
    return image


def verify_png(content: bytes, mode: str, location: str) -> tuple[int, int]:
    """Rows and columns of a PNG whose checksums hold; its pixels are not decoded.

    Raises:
        ValueError: as `decode_png` does.
    """
    image = _open(content, location, ("PNG",), (mode,))
    columns, rows = image.size
    with _explain_damage(location, ("PNG",)):
        image.verify()
    return rows, columns


def decode_photograph(content: bytes, location: str) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG into (h, w, 3) uint8 RGB, rotated as its EXIF entry says.

    Args:
        content: the file's bytes.
        location: the file, for messages.

    Raises:
        ValueError: if it is neither, is damaged, has more than MAX_PIXELS, or more than 8 bits per
            channel.
    """
    formats = ("PNG", "JPEG")
    image = _open(content, location, formats, MODES_8_BIT)
    with _explain_damage(location, formats), image:
        # A copy, because torch wants memory it may write to.
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def encode_png(image: Image.Image) -> bytes:
    """The image as a PNG: the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _open(
    content: bytes, location: str, formats: Collection[str], modes: Collection[str]
) -> Image.Image:
    """Read an image's header and check it."""
    with _explain_damage(location, formats), warnings.catch_warnings():
        # MAX_PIXELS is checked below; Pillow's own limit changes between versions.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(content), formats=list(formats))
    columns, rows = image.size
    if rows * columns > MAX_PIXELS:
        raise ValueError(
            f"{location}: {rows} x {columns} pixels, not decoded; the limit is {MAX_PIXELS} pixels"
        )
    if image.mode not in modes:
        expected = _MODE_DESCRIPTIONS.get(next(iter(modes)), "") if len(modes) == 1 else ""
        raise ValueError(
            f"{location}: mode {image.mode}; expected {expected or 'at most 8 bits per channel'}"
        )
    return image


@contextmanager
def _explain_damage(location: str, formats: Collection[str]) -> Iterator[None]:
    kinds = " or ".join(formats)
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(f"{location}: not a {kinds}; get the file again") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{location}: not decoded; its pixels are over the limit of {MAX_PIXELS}"
        ) from None
    except _DECODE_ERRORS as error:
        raise ValueError(f"{location}: damaged {kinds} ({error}); get the file again") from None
