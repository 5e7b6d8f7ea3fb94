"""Opens a film for writing: H.264, VP9, AV1, lossless gray, or animated WebP."""

from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.video.frames import FrameSource

Codec = Literal["h264", "vp9", "av1", "webp"]

SUFFIXES: dict[Codec, str] = {"h264": ".mp4", "vp9": ".webm", "av1": ".mp4", "webp": ".webp"}
"""The container of each codec."""


class FrameWriter(Protocol):
    """A film that is being written."""

    notes: list[str]
    """Sentences for the user, such as why there is no sound; complete when the film is closed."""

    def write(self, image: NDArray[np.uint8], time_s: Fraction) -> None:
        """Append a frame.

        Args:
            image: (rows, columns, 3) uint8 RGB.
            time_s: when it appears; later than the frame before.
        """


def open_writer(
    path: Path, source: FrameSource, *, rows: int, columns: int, codec: Codec = "h264"
) -> AbstractContextManager[FrameWriter]:
    """Write a film with the times and the sound of its source.

    The film appears at `path` whole, when the block ends. If ctrl-C or SIGTERM ends the block, it
    holds the frames written until then; after any other error nothing is left.

    Args:
        path: with the suffix of the codec (`SUFFIXES`).
        source: where the frames come from: gives times and sound.
        rows: height of the frames, in pixels.
        columns: width of the frames, in pixels. H.264, VP9 and AV1 store an even number of rows
            and columns: an odd one is made even by repeating the last row or column.
        codec: `h264`, `vp9`, `av1`, or `webp`: an animated picture that loops, without sound.

    Raises:
        ValueError: if the encoder is missing in this FFmpeg, or the disk is full.
    """
    raise NotImplementedError
