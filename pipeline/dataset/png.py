"""One PNG, decoded or only checked, refused by name where it is damaged, odd or a bomb."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 2**26
"""No picture may have more: 32 times a frame of Cityscapes, three quarters of what PIL allows."""

_MODE_DESCRIPTIONS = {"RGB": "8 bit RGB", "L": "8 bit L", "I;16": "16 bit grey"}

# What PIL raises on damaged PNGs: four of these found in 100,000 with bytes changed at random.
_DAMAGE_ERRORS = (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error)


def decode(content: bytes, mode: str, location: str) -> Image.Image:
    """Decode a PNG of one mode.

    Args:
        content: the file's bytes.
        mode: `RGB` or `L`, 8 bits a channel, or `I;16`.
        location: the file, for the message.

    Raises:
        ValueError: if it is no PNG, damaged, too large, or of another mode.
    """
    picture = _open(content, mode, location)
    with _explain_damage(location):
        picture.load()
    return picture


def verify(content: bytes, mode: str, location: str) -> tuple[int, int]:
    """Rows and columns of a PNG whose checksums hold; its pixels are not decoded.

    Raises:
        ValueError: as `decoded` does.
    """
    picture = _open(content, mode, location)
    columns, rows = picture.size
    with _explain_damage(location):
        picture.verify()
    return rows, columns


def encode(picture: Image.Image) -> bytes:
    """The picture as a PNG: the same pixels give the same bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _open(content: bytes, mode: str, location: str) -> Image.Image:
    """Read a PNG's header and judge it."""
    with _explain_damage(location), warnings.catch_warnings():
        # Judged below, by a limit that is ours and does not change with PIL's.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        picture = Image.open(io.BytesIO(content), formats=["PNG"])
    columns, rows = picture.size
    if rows * columns > MAX_PIXELS:
        raise ValueError(
            f"{location} claims {rows} x {columns} pixels and was not decoded: more than {MAX_PIXELS}"
            " are absurd"
        )
    if picture.mode != mode:
        raise ValueError(
            f"{location} has mode {picture.mode}, but should be {_MODE_DESCRIPTIONS[mode]}"
        )
    return picture


@contextmanager
def _explain_damage(location: str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(f"{location} cannot be read (no PNG): fetch it again") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{location} claims absurdly many pixels and was not decoded") from None
    except _DAMAGE_ERRORS as error:
        raise ValueError(f"{location} cannot be read ({error}): fetch it again") from None
