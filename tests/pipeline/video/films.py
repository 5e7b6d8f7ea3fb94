"""Films for tests, written with PyAV itself."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

MILLISECOND = Fraction(1, 1000)
ROWS, COLUMNS = 48, 64
VFR_TIMES_MS = (0, 40, 45, 100, 300, 1000, 1001, 1300)
"""A variable frame rate."""


def make_images(number: int, rows: int = ROWS, columns: int = COLUMNS) -> list[NDArray[np.uint8]]:
    """Gray pictures, each brighter than the one before by a step that survives a lossy codec."""
    levels = np.linspace(16, 240, number).round().astype(np.uint8)
    return [np.full((rows, columns, 3), level, dtype=np.uint8) for level in levels]


def write_film(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    times_ms: Sequence[int] | None = None,
    *,
    encoder: str = "libx264",
    rotation: int | None = None,
    pixel_aspect: Fraction = Fraction(1),
    audio: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write (h, w, 3) uint8 RGB pictures as a film at times, by default 25 frames/s.

    `audio` names an encoder: then a tone starts half a second into the film and lasts to its end.
    `rotation` is in degrees, counterclockwise.
    """
    times = list(times_ms or range(0, 40 * len(images), 40))
    with av.open(str(path), "w", container_options=options or {}) as container:
        video = container.add_stream(encoder, rate=25)
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "bgr0" if encoder == "ffv1" else "yuv420p"
        video.codec_context.time_base = MILLISECOND
        video.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation is not None:
            video.set_display_rotation(rotation)
        sound = container.add_stream(audio, rate=48_000) if audio else None
        if sound:
            sound.layout = "mono"
        for image, time_ms in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base, frame.duration = time_ms, MILLISECOND, 40
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            _write_tone(container, sound, (times[-1] + 40) / 1000)
    return path


def read_film(path: Path) -> tuple[list[float], list[NDArray[np.uint8]]]:
    """Times in seconds, and (h, w, 3) uint8 RGB frames, as PyAV decodes them."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [frame.time for frame in frames], [
            frame.to_ndarray(format="rgb24") for frame in frames
        ]


def read_audio(path: Path) -> tuple[str, float, float]:
    """Codec of the sound, when the tone of `write_film` begins, and when the sound ends (s)."""
    tone_start, end = -1.0, 0.0
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        for frame in container.decode(stream):
            samples = frame.to_ndarray().astype(float)
            peak = np.abs(samples).max() / (1 if frame.format.name.startswith("flt") else 2**15)
            if peak > 0.1 and tone_start < 0:
                tone_start = frame.time
            end = frame.time + frame.samples / frame.sample_rate
        return stream.codec_context.name, tone_start, end


def _write_tone(
    container: av.container.OutputContainer, stream: av.AudioStream, end: float
) -> None:
    times = np.arange(int(end * 48_000)) / 48_000
    tone = np.sin(2 * np.pi * 440 * times) * 16_000 * (times >= 0.5)
    for start in range(0, len(tone), 1024):
        samples = tone[None, start : start + 1024].astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
