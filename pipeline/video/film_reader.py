"""Reads the frames of a film: upright, with their times, up to the first damage."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.video.av_library import load_av, open_container
from pipeline.video.frames import Cut, VideoFrame, check_frame_size

if TYPE_CHECKING:
    from av import VideoFrame as AvFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_DEFAULT_FRAME_RATE = Fraction(25)  # of a film whose header names none
_TOLERANCE_S = Fraction(1, 2)  # by which an intact film may end before the time in its header


class FilmReader:
    """A film in any format that FFmpeg decodes.

    The frames are turned as the film's display matrix says, as phones write it, and stretched to
    square pixels. Times start at 0 with the film, or with the start of the cut, rounded to the
    film's time base.

    Args:
        path: the film.
        cut: the part to read.

    Attributes:
        As those of `FrameSource`.

    Raises:
        ValueError: if it is no film, has no video stream, is in an unknown codec, has no frame that
            can be decoded, or frames of more than MAX_PIXELS.
    """

    def __init__(self, path: Path, cut: Cut | None = None) -> None:
        self.path = path
        self.name = path.stem
        self.cut = cut or Cut()
        self.damage: str | None = None
        with open_container(path) as container:
            stream = _find_video_stream(container, path)
            context = stream.codec_context
            check_frame_size(context.height, context.width, str(path))
            self.time_base = Fraction(stream.time_base or Fraction(1, 90_000))
            self.frame_rate = Fraction(stream.average_rate or _DEFAULT_FRAME_RATE)
            self.has_audio = bool(container.streams.audio)
            self.start_s = self._to_ticks(Fraction(max(container.start_time or 0, 0), 10**6))
            self._duration_s = _find_duration(container, stream)
            first = self._decode_first_frame(container, stream)
        # Stored size with square pixels: what every frame is scaled to, before it is turned.
        self._stored_size = first.height, round(first.width * _pixel_aspect(stream))
        self._matrix = _display_matrix(first)
        check_frame_size(*self._stored_size, str(path))
        self.rows, self.columns = self._to_rgb(first).shape[:2]

    @property
    def num_frames(self) -> int | None:
        """Frames that an iteration yields, estimated from the header; None if that is silent."""
        if self._duration_s is None:
            return None
        return self.cut.estimate_num_frames(self._duration_s, self.frame_rate)

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decode the frames of the cut; `damage` then says whether the film ended too early."""
        self.damage = None
        origin = self._to_ticks(self.cut.start_s)
        index, previous = 0, -self.time_base
        for frame, film_time in self._decode_from_start():
            if self.cut.end_s is not None and film_time >= self.cut.end_s:
                break
            if film_time < self.cut.start_s:
                continue
            if index % self.cut.every == 0:
                # Times that repeat or step back would be refused by every container.
                time_s = max(film_time - origin, previous + self.time_base)
                previous = time_s
                yield VideoFrame(
                    self._to_rgb(frame), time_s, f"{self.path} at {_seconds(film_time)}"
                )
            index += 1

    def _decode_from_start(self) -> Iterator[tuple["AvFrame", Fraction]]:
        """Frames and their times in the film, from a frame at or before the start of the cut."""
        with open_container(self.path) as container:
            stream = _find_video_stream(container, self.path)
            frames = self._decode(container, stream)
            if self.cut.start_s > 0 and self._seek(container, stream):
                first = next(frames, None)
                if first is not None and first[1] <= self.cut.start_s:
                    yield first
                    yield from frames
                    return
        with open_container(self.path) as container:
            yield from self._decode(container, _find_video_stream(container, self.path))

    def _decode(
        self, container: "InputContainer", stream: "VideoStream"
    ) -> Iterator[tuple["AvFrame", Fraction]]:
        """All frames from where the container stands, with their times in the film."""
        av = load_av()
        stream.thread_type = "AUTO"
        film_time, end = Fraction(0), Fraction(0)
        try:
            for packet in container.demux(stream):
                is_end = packet.is_corrupt
                # What the decoder holds back comes out at the end.
                decoded = stream.decode(None) if is_end else packet.decode()
                for frame in decoded:
                    if frame.is_corrupt:
                        # A broadcast may begin with frames that refer to earlier ones.
                        is_end = is_end or end > 0
                        continue
                    if is_end and not packet.is_corrupt:
                        break
                    film_time = end if frame.pts is None else self._film_time(frame.pts)
                    length = (frame.duration or 0) * self.time_base or 1 / self.frame_rate
                    end = film_time + length
                    yield frame, film_time
                if is_end:
                    self._note_damage(end)
                    return
        except av.FFmpegError:
            self._note_damage(end)
            return
        if self._duration_s and end + max(_TOLERANCE_S, 3 / self.frame_rate) < self._duration_s:
            self._note_damage(end)

    def _note_damage(self, end: Fraction) -> None:
        of = f" of {_seconds(self._duration_s)}" if self._duration_s else ""
        self.damage = (
            f"{self.path} is damaged or cut off at {_seconds(end)}{of}; the frames before are used"
        )

    def _decode_first_frame(self, container: "InputContainer", stream: "VideoStream") -> "AvFrame":
        av = load_av()
        reason = "it is empty"
        with contextlib.suppress(av.EOFError):
            try:
                for frame in container.decode(stream):
                    if not frame.is_corrupt:
                        return frame
            except av.FFmpegError as error:
                reason = error.strerror or reason
        raise ValueError(f"{self.path}: no frame can be decoded ({reason}); get the film again")

    def _seek(self, container: "InputContainer", stream: "VideoStream") -> bool:
        """Go to a key frame before the cut; return whether the format can."""
        position = self.cut.start_s + self.start_s
        try:
            container.seek(int(position / self.time_base), stream=stream)
        except load_av().FFmpegError:
            return False
        return True

    def _film_time(self, pts: int) -> Fraction:
        return pts * self.time_base - self.start_s

    def _to_ticks(self, seconds: Fraction) -> Fraction:
        return round(seconds / self.time_base) * self.time_base

    def _to_rgb(self, frame: "AvFrame") -> NDArray[np.uint8]:
        rows, columns = self._stored_size
        rgb = frame.reformat(width=columns, height=rows, format="rgb24")
        return _apply_display_matrix(np.asarray(rgb.to_ndarray(), dtype=np.uint8), self._matrix)


def _find_video_stream(container: "InputContainer", path: Path) -> "VideoStream":
    """The first video stream that is not a cover picture."""
    av = load_av()
    if container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty"):
        raise ValueError(f"{path}: neither a film nor a PNG or JPEG; convert it to one of them")
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise ValueError(f"{path}: has no video stream; name a film")
    if streams[0].codec_context is None:
        raise ValueError(
            f"{path}: its video is in a codec that FFmpeg does not know; convert it to H.264"
        )
    return streams[0]


def _find_duration(container: "InputContainer", stream: "VideoStream") -> Fraction | None:
    """Seconds of video that the header promises; None if it promises none."""
    if stream.duration and stream.time_base:
        return Fraction(stream.duration * stream.time_base)
    if "DURATION" in stream.metadata:  # Matroska's: 00:00:03.200000000
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    # The container's is that of its longest stream.
    if container.duration and not container.streams.audio:
        return Fraction(container.duration, 10**6)
    return None


def _pixel_aspect(stream: "VideoStream") -> Fraction:
    """Width of a pixel by its height; 1 if the film does not say."""
    return Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)


def _display_matrix(frame: "AvFrame") -> tuple[int, int, int, int]:
    """Signs of a, b, c, d in x' = a x + c y, y' = b x + d y; those of no change by default."""
    side_data: Any = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.sign(np.frombuffer(side_data, dtype=np.int32)).tolist()
    is_right_angle = (a and d and not b and not c) or (b and c and not a and not d)
    return (a, b, c, d) if is_right_angle else (1, 0, 0, 1)


def _apply_display_matrix(
    image: NDArray[np.uint8], matrix: tuple[int, int, int, int]
) -> NDArray[np.uint8]:
    a, b, c, d = matrix
    turned = image[::d, ::a] if a else image.transpose(1, 0, 2)[::b, ::c]
    return np.ascontiguousarray(turned)


def _seconds(time_s: Fraction) -> str:
    return f"{float(time_s):.2f} s"
