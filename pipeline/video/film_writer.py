"""Encodes frames with their times into a film of one codec."""

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.video.audio_track import AudioTrack
from pipeline.video.av_library import disk_errors, load_av
from pipeline.video.codecs import CODECS, Codec
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from av import VideoFrame as AvFrame
    from av.video.stream import VideoStream


class FilmWriter:
    """A film that is being written; `open_writer` closes it.

    Args:
        path: of the file; replaced if it exists.
        source: gives the time base and the sound.
        rows: height of the frames, in pixels.
        columns: width of the frames, in pixels.
        codec: a key of CODECS.

    Attributes:
        num_frames: frames written.
        notes: sentences for the user, complete after `finish`.

    Raises:
        ValueError: if this FFmpeg has no such encoder.
    """

    def __init__(
        self, path: Path, source: FrameSource, *, rows: int, columns: int, codec: Codec
    ) -> None:
        self.num_frames = 0
        self.notes: list[str] = []
        self._source = source
        self._settings = CODECS[codec]
        self._size = (rows, columns)
        self._previous_s, self._last_s = Fraction(0), Fraction(0)
        self._is_flushed = False
        av = load_av()
        with disk_errors():
            self._container = av.open(
                f"file:{path.absolute()}",
                "w",
                format=self._settings.container,
                container_options=self._settings.container_options,
            )
        self._stream = self._add_stream(codec)
        self._audio: AudioTrack | None = None
        if self._settings.takes_audio and source.has_audio:
            self._audio = AudioTrack(source, self._container, self._settings.container)

    def write(self, image: NDArray[np.uint8], time_s: Fraction) -> None:
        """Append a frame.

        Args:
            image: (rows, columns, 3) uint8 RGB; (rows, columns) uint8 for lossless gray.
            time_s: when it appears; later than the frame before.
        """
        assert image.shape[:2] == self._size, "frames of another size"
        frame = self._make_frame(image)
        frame.time_base = self._source.time_base
        frame.pts = round(time_s / self._source.time_base)
        self._previous_s, self._last_s = self._last_s, time_s
        self._mux(frame)
        self.num_frames += 1
        if self._audio:
            self._audio.write_until(time_s)

    def finish(self, *, is_complete: bool) -> None:
        """Write what is left and close the file; the sound stops with the last frame if stopped."""
        if not self._is_flushed:  # it was interrupted here
            self._is_flushed = True
            self._mux(None)
        if self._audio:
            is_whole = is_complete and self._source.damage is None
            self._audio.write_until(None if is_whole else self._last_s + self._step())
            if self._audio.note:
                self.notes.append(self._audio.note)
            self._audio.close()
        with disk_errors():
            self._container.close()

    def abort(self) -> None:
        """Close the file, which is of no use."""
        if self._audio:
            self._audio.close()
        with contextlib.suppress(load_av().FFmpegError, OSError):
            self._container.close()

    def _add_stream(self, codec: Codec) -> "VideoStream":
        av = load_av()
        try:
            stream: VideoStream = self._container.add_stream(
                self._settings.encoder, rate=self._source.frame_rate
            )
        except (av.codec.codec.UnknownCodecError, ValueError):
            self.abort()
            others = ", ".join(name for name in CODECS if name not in (codec, "ffv1"))
            raise ValueError(
                f"this FFmpeg has no encoder {self._settings.encoder}; choose another --codec:"
                f" {others}"
            ) from None
        rows, columns = self._size
        is_subsampled = self._settings.pixel_format == "yuv420p"
        stream.height = rows + rows % 2 if is_subsampled else rows
        stream.width = columns + columns % 2 if is_subsampled else columns
        stream.pix_fmt = self._settings.pixel_format
        stream.options = {**self._settings.options}
        stream.codec_context.time_base = self._source.time_base
        if is_subsampled:
            _tag_colors(stream)
        return stream

    def _make_frame(self, image: NDArray[np.uint8]) -> "AvFrame":
        av = load_av()
        if self._settings.lossless_gray:
            gray: AvFrame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gray")
            return gray
        rows, columns = self._size
        if rows % 2 or columns % 2:
            image = np.pad(image, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        converted: AvFrame = frame.reformat(
            format=self._settings.pixel_format,
            dst_colorspace=av.video.reformatter.Colorspace.ITU709,
            dst_color_range=av.video.reformatter.ColorRange.MPEG,
        )
        return converted

    def _mux(self, frame: "AvFrame | None") -> None:
        for packet in self._stream.encode(frame):
            # Containers take a frame's duration from the next one, and this for the last.
            packet.duration = round(self._step() / packet.time_base)
            with disk_errors():
                self._container.mux(packet)

    def _step(self) -> Fraction:
        """Seconds from the last frame but one to the last."""
        if self.num_frames > 1:
            return self._last_s - self._previous_s
        return self._source.cut.every / self._source.frame_rate


def _tag_colors(stream: "VideoStream") -> None:
    """Say which matrix the colors were converted with: players else guess it from the size."""
    reformatter = load_av().video.reformatter
    stream.codec_context.colorspace = reformatter.Colorspace.ITU709
    stream.codec_context.color_primaries = reformatter.ColorPrimaries.BT709
    stream.codec_context.color_trc = reformatter.ColorTrc.BT709
    stream.codec_context.color_range = reformatter.ColorRange.MPEG
