import io
import zlib

import numpy as np
import pytest
from PIL import Image

from segformer import images
from segformer.images import decode_photograph, decode_png, encode_png, verify_png

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, encoding: str = "PNG") -> bytes:
    """The pixels as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=encoding)
    return buffer.getvalue()


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that claims far more pixels than Pillow allows is refused."""
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"street: not decoded; .* over the limit"):
        decode_photograph(encoded(np.zeros((100, 100, 3), dtype=np.uint8)), "street")


def test_exif_rotation_is_applied() -> None:
    """A JPEG whose EXIF entry says that it lies on its side comes out upright."""
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate right by 90 degrees
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(buffer, "JPEG", exif=exif, quality=95)
    decoded = decode_photograph(buffer.getvalue(), "street")
    assert upright.shape == decoded.shape
    assert 8 >= np.abs(decoded.astype(int) - upright).max()


def test_too_many_pixels_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one pixel limit is checked in the header, for photographs and label maps alike."""
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    message = "street: 40 x 56 pixels, not decoded; the limit is 1000 pixels"
    with pytest.raises(ValueError, match=message):
        decode_photograph(encoded(PIXELS), "street")
    for read in (decode_png, verify_png):
        with pytest.raises(ValueError, match=message):
            read(encoded(PIXELS), "RGB", "street")


def test_sixteen_bits_per_channel_are_refused() -> None:
    """An image whose values would be cut off is refused, not turned white."""
    content = encoded(PIXELS[..., 0].astype(np.uint16) * 256)
    with pytest.raises(ValueError, match="street: mode I;16; expected at most 8 bits per channel"):
        decode_photograph(content, "street")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no picture", "a.png: not a PNG; get the file again"),
        (encoded(PIXELS, "JPEG"), "a.png: not a PNG; get the file again"),
        (encoded(PIXELS)[:2000], "a.png: damaged PNG"),
        (encoded(PIXELS[..., 0].copy()), "a.png: mode L; expected 8-bit RGB"),
    ],
)
def test_what_is_not_a_png_of_the_mode_is_named(content: bytes, message: str) -> None:
    """Text, another format, half a file and another mode are errors that name the file."""
    with pytest.raises(ValueError, match=message):
        decode_png(content, "RGB", "a.png")


def test_a_wrong_checksum_is_noticed_without_decoding() -> None:
    """`verify_png` refuses a PNG whose pixels do not match their checksum."""
    content = bytearray(encoded(PIXELS))
    content[len(content) // 2] ^= 1
    with pytest.raises(ValueError, match=r"a\.png: damaged PNG"):
        verify_png(bytes(content), "RGB", "a.png")


def test_encode_png_is_lossless() -> None:
    """The pixels survive, and the size is known without decoding."""
    content = encode_png(Image.fromarray(PIXELS))
    assert zlib.crc32(content) == zlib.crc32(encode_png(Image.fromarray(PIXELS)))
    np.testing.assert_array_equal(PIXELS, np.asarray(decode_png(content, "RGB", "a.png")))
    assert (40, 56) == verify_png(content, "RGB", "a.png")
