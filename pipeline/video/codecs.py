"""The codecs that films are written in, and how."""

from dataclasses import dataclass, field
from typing import Literal

Codec = Literal["h264", "vp9", "av1", "webp", "ffv1"]


@dataclass(frozen=True)
class CodecSettings:
    """How one codec is written.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        container: FFmpeg's name of the container.
        suffix: of the file.
        pixel_format: FFmpeg's name of the pixel format of its frames.
        options: of the encoder.
        container_options: of the container.
        takes_audio: whether the container is given the sound of the source.
        lossless_gray: whether it holds numbers, not colors: (rows, columns) uint8.
    """

    encoder: str
    container: str
    suffix: str
    pixel_format: str
    options: dict[str, str]
    container_options: dict[str, str] = field(default_factory=dict)
    takes_audio: bool = False
    lossless_gray: bool = False


# The index in front, so that a browser plays before it has the whole file.
_FASTSTART = {"movflags": "+faststart"}

CODECS: dict[Codec, CodecSettings] = {
    # Without B-frames every time is exact in MP4, the last one's duration included.
    "h264": CodecSettings(
        "libx264",
        "mp4",
        ".mp4",
        "yuv420p",
        {"preset": "veryfast", "crf": "20", "bf": "0"},
        _FASTSTART,
        takes_audio=True,
    ),
    "vp9": CodecSettings(
        "libvpx-vp9",
        "webm",
        ".webm",
        "yuv420p",
        {"deadline": "realtime", "cpu-used": "6", "row-mt": "1", "crf": "32", "b": "0"},
        takes_audio=True,
    ),
    "av1": CodecSettings(
        "libsvtav1",
        "mp4",
        ".mp4",
        "yuv420p",
        {"preset": "10", "crf": "34"},
        _FASTSTART,
        takes_audio=True,
    ),
    "webp": CodecSettings(
        "libwebp_anim", "webp", ".webp", "yuv420p", {"quality": "75"}, {"loop": "0"}
    ),
    "ffv1": CodecSettings(
        "ffv1", "matroska", ".mkv", "gray", {"level": "3", "slicecrc": "1"}, lossless_gray=True
    ),
}
