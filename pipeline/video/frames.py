"""What a film is here: a source of frames, each with its time."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segformer.images import MAX_PIXELS


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a film.

    Attributes:
        image: (h, w, 3) uint8 RGB, upright, with square pixels.
        time_s: when it appears, in seconds from the start of the cut.
        label: the frame in messages: its time in the film, or the name of its picture.
    """

    image: NDArray[np.uint8]
    time_s: Fraction
    label: str


@dataclass(frozen=True)
class Cut:
    """The part of a film to read.

    Attributes:
        start_s: seconds from the start of the film.
        end_s: seconds from the start of the film, exclusive; None: its end.
        every: of the frames in between, read the first of each `every`.

    Raises:
        ValueError: if it is empty, or `every` is less than 1.
    """

    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every {self.every}: choose 1 for all frames, 2 for every other one")
        if self.start_s < 0 or (self.end_s is not None and self.end_s <= self.start_s):
            end = "the end" if self.end_s is None else f"{float(self.end_s):g} s"
            raise ValueError(
                f"from {float(self.start_s):g} s to {end} there is no film: choose a start of at"
                " least 0, and an end after it"
            )

    def estimate_num_frames(self, duration_s: Fraction, frame_rate: Fraction) -> int:
        """The number of frames that the cut leaves of a film."""
        end = duration_s if self.end_s is None else min(self.end_s, duration_s)
        num_frames = round(max(end - self.start_s, Fraction(0)) * frame_rate)
        return -(-num_frames // self.every)


class FrameSource(Protocol):
    """A film, or pictures that are one: iterate over it for its frames, as often as needed."""

    @property
    def path(self) -> Path:
        """The film, or the zip or folder of its pictures."""

    name: str
    """The name of its outputs, without a suffix; may be changed."""

    @property
    def rows(self) -> int:
        """Height of every frame, in pixels."""

    @property
    def columns(self) -> int:
        """Width of every frame, in pixels."""

    @property
    def num_frames(self) -> int | None:
        """Frames that an iteration yields, estimated from the header; None if that is silent."""

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, on average, of the film before the cut."""

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


def check_frame_size(rows: int, columns: int, location: str) -> None:
    """Raise a ValueError if a frame has more than MAX_PIXELS."""
    if rows * columns > MAX_PIXELS:
        raise ValueError(
            f"{location}: {rows} x {columns} pixels, not decoded; the limit is {MAX_PIXELS} pixels"
        )
