"""Carries the sound of a film over to another: its packets, or encoded again."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from pipeline.video.av_library import disk_errors, load_av, open_container
from pipeline.video.frames import FrameSource

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

    TimedPacket = tuple[Packet[AudioStream], Fraction]

_COPIED = {
    "mp4": {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"},
    "webm": {"opus", "vorbis"},
}
"""Codecs that a container takes as they are."""

_ENCODERS = {"mp4": "aac", "webm": "libopus"}

_SAMPLE_RATE = 48_000  # Hz, of sound that is encoded again; Opus has no 44100


class AudioTrack:
    """The first audio stream of a source, cut as the source is, in an output container.

    Args:
        source: a film that has audio.
        container: to write into; nothing has been written yet.
        kind: its format, `mp4` or `webm`.

    Attributes:
        note: a sentence if the sound is incomplete or left out, else None.
    """

    def __init__(self, source: FrameSource, container: "OutputContainer", kind: str) -> None:
        self.note: str | None = None
        self._source = source
        self._container = container
        self._kind = kind
        self._input = open_container(source.path)
        self._stream = self._input.streams.audio[0]
        self._is_copied = False
        self._output = self._add_stream()
        self._packets = self._make_packets()
        self._next = None if self._output is None else self._take()

    def _add_stream(self) -> "AudioStream | None":
        try:
            codec = self._stream.codec_context.name if self._stream.codec_context else None
            if codec in _COPIED[self._kind]:
                self._is_copied = True
                return self._container.add_stream_from_template(self._stream)
            if codec is None:
                raise ValueError("its codec is unknown to FFmpeg")
            encoded = self._container.add_stream(_ENCODERS[self._kind], rate=_SAMPLE_RATE)
        except (load_av().FFmpegError, ValueError) as error:
            self.note = f"{self._source.path}: written without sound ({error})"
            return None
        assert encoded.type == "audio"
        audio = cast("AudioStream", encoded)
        audio.layout = "mono" if self._stream.layout.nb_channels == 1 else "stereo"
        return audio

    def write_until(self, time_s: Fraction | None) -> None:
        """Write the sound before a time, in seconds from the start of the cut; None: all."""
        while self._next is not None and (time_s is None or self._next[1] < time_s):
            with disk_errors():
                self._container.mux(self._next[0])
            self._next = self._take()

    def close(self) -> None:
        """Close the source."""
        self._packets.close()
        self._input.close()

    def _take(self) -> "TimedPacket | None":
        try:
            return next(self._packets, None)
        except load_av().FFmpegError as error:
            self.note = (
                f"{self._source.path}: its sound is damaged and ends early ({error.strerror})"
            )
            return None

    def _make_packets(self) -> "Generator[TimedPacket, None, None]":
        """Packets for the output, and when each begins, in seconds from the start of the cut."""
        begin_s = Fraction(max(self._input.start_time or 0, 0), 10**6) + self._source.cut.start_s
        if self._source.cut.start_s > 0:
            self._seek(begin_s)
        yield from (self._copy_packets(begin_s) if self._is_copied else self._encode(begin_s))

    def _copy_packets(self, begin_s: Fraction) -> "Iterator[TimedPacket]":
        assert self._output is not None
        for packet in self._input.demux(self._stream):
            if packet.pts is None or packet.dts is None or packet.is_corrupt:
                continue
            shift = round(begin_s / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            time_s = Fraction(packet.pts * packet.time_base)
            if self._is_in_cut(time_s):
                packet.stream = self._output
                yield packet, time_s

    def _encode(self, begin_s: Fraction) -> "Iterator[TimedPacket]":
        assert self._output is not None
        time_s = Fraction(0)
        for frame in self._input.decode(self._stream):
            if frame.pts is None or not frame.time_base:
                continue
            frame.pts -= round(begin_s / frame.time_base)
            time_s = Fraction(frame.pts * frame.time_base)
            if self._is_in_cut(time_s):
                for packet in self._output.encode(frame):
                    yield packet, time_s
        for packet in self._output.encode(None):
            yield packet, time_s

    def _seek(self, begin_s: Fraction) -> None:
        try:
            self._input.seek(int(begin_s * 10**6))
        except load_av().FFmpegError:  # a format without an index is read from its start
            self._input.close()
            self._input = open_container(self._source.path)
            self._stream = self._input.streams.audio[0]

    def _is_in_cut(self, time_s: Fraction) -> bool:
        cut = self._source.cut
        # The lead-in of an encoder lies before 0: MP4 keeps it, WebM would move the frames for it.
        keeps_lead_in = cut.start_s == 0 and self._kind == "mp4"
        return (time_s >= 0 or keeps_lead_in) and (
            cut.end_s is None or time_s < cut.end_s - cut.start_s
        )
