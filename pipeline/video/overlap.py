"""Decodes, processes and writes frames at the same time, each in a thread of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipeline.download.byte_progress import ProgressCallback
from pipeline.video.frames import FrameSource, VideoFrame

Result = TypeVar("Result")


@dataclass(frozen=True)
class Timings:
    """How long the three parts took.

    Attributes:
        num_frames: frames processed.
        seconds: from the first frame's decoding to the last one's writing.
        busy: part (`decode`, `process`, `write`) -> seconds of work; the rest of `seconds` it
            waits for the others.
    """

    num_frames: int
    seconds: float
    busy: dict[str, float]


def transform_frames(
    source: FrameSource,
    process: Callable[[VideoFrame], Result],
    write: Callable[[Result], None],
    progress: ProgressCallback | None = None,
) -> Timings:
    """Decode all frames of a source, process each, and write the results in order.

    Decoding and `write` run in threads, `process` in the calling one; the queues between them are
    short, so that memory does not grow with the film. If ctrl-C or SIGTERM interrupts the call,
    results already processed are written before it ends.

    Args:
        source: the film.
        process: called with one frame after the other, such as the network.
        write: called with each result, in order.
        progress: called with the frames done, their total (0: unknown) and the frames per second.

    Raises:
        Exception: the first error of any part, after all have ended.
    """
    raise NotImplementedError
