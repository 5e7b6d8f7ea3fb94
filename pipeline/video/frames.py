"""What a film is here: a source of frames, each with its time."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a film.

    Attributes:
        image: (h, w, 3) uint8 RGB, upright, with square pixels.
        time_s: when it appears, in seconds from the start of the cut.
        label: the frame in messages, such as `frame 17` or the name of its picture.
    """

    image: NDArray[np.uint8]
    time_s: Fraction
    label: str


@dataclass(frozen=True)
class Cut:
    """The part of a film to read.

    Attributes:
        start_s: seconds from the start of the film; None: its start.
        end_s: seconds from the start of the film, exclusive; None: its end.
        every: of the frames in between, read the first of each `every`.
    """

    start_s: Fraction | None = None
    end_s: Fraction | None = None
    every: int = 1

    def contains(self, time_s: Fraction) -> bool:
        """Whether a time, in seconds from the start of the film, lies in the cut."""
        is_after_start = self.start_s is None or time_s >= self.start_s
        return is_after_start and (self.end_s is None or time_s < self.end_s)


class FrameSource(Protocol):
    """A film, or pictures that are one: iterate over it for its frames, as often as needed."""

    @property
    def path(self) -> Path:
        """The film, or the zip or folder of its pictures."""

    @property
    def name(self) -> str:
        """The name of its outputs, without a suffix."""

    @property
    def rows(self) -> int:
        """Height of every frame, in pixels."""

    @property
    def columns(self) -> int:
        """Width of every frame, in pixels."""

    @property
    def num_frames(self) -> int | None:
        """Frames that an iteration yields, as far as the file says; None if it does not."""

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, on average."""

    @property
    def time_base(self) -> Fraction:
        """All times are multiples of this many seconds."""

    @property
    def cut(self) -> Cut:
        """The part that is read."""

    @property
    def has_audio(self) -> bool:
        """Whether `path` has an audio stream to keep."""

    @property
    def damage(self) -> str | None:
        """After an iteration: one sentence if it ended early because the film is damaged."""

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decode the frames one by one, in order of time."""
