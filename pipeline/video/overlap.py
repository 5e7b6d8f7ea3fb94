"""Decodes, processes and writes frames at the same time, each in a thread of its own."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.video.frames import FrameSource, VideoFrame

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int, str], None]
"""Called with the frames done, their total (0 if unknown), and the frames per second as text."""

PARTS = ("decode", "process", "write")

_QUEUE_LENGTH = 4  # frames; enough to even out the times of single frames


@dataclass(frozen=True)
class Timings:
    """How long the three parts took.

    Attributes:
        num_frames: frames processed.
        seconds: from the start of the decoding to the end of the writing.
        busy: part (`decode`, `process`, `write`) -> seconds of work.
    """

    num_frames: int
    seconds: float
    busy: dict[str, float]

    def waiting_share(self, part: str) -> float:
        """The share of the time, 0..1, in which a part waits for the other parts."""
        return max(0.0, 1 - self.busy[part] / self.seconds)


def transform_frames(
    source: FrameSource,
    process: Callable[[VideoFrame], Result],
    write: Callable[[Result], None],
    progress: Progress | None = None,
) -> Timings:
    """Decode all frames of a source, process each, and write the results in order.

    Decoding and `write` run in threads, `process` in the calling one; the queues between them are
    short, so that memory does not grow with the film. If ctrl-C or SIGTERM interrupts the call,
    results already processed are written before it ends.

    Args:
        source: the film.
        process: called with one frame after the other, such as the network.
        write: called with each result, in order.
        progress: called after each frame.

    Raises:
        Exception: the first error of any part, after all have ended.
    """
    clock = _Clock()
    frames: _Channel[VideoFrame] = _Channel()
    results: _Channel[Result] = _Channel()
    decoder = threading.Thread(target=_decode, args=(source, frames, clock), daemon=True)
    writer = threading.Thread(target=_write, args=(results, write, clock), daemon=True)
    start = time.perf_counter()
    decoder.start()
    writer.start()
    num_frames = 0
    try:
        for frame in frames:
            with clock.measure("process"):
                result = process(frame)
            if not results.put(result):
                break
            num_frames += 1
            if progress:
                rate = num_frames / (time.perf_counter() - start)
                total = max(source.num_frames or 0, num_frames) if source.num_frames else 0
                progress(num_frames, total, f"{rate:.1f} frames/s")
    finally:
        frames.close()
        results.finish()
        writer.join()
        decoder.join()
    if results.error:
        raise results.error
    return Timings(num_frames, time.perf_counter() - start, clock.busy)


def _decode(source: FrameSource, frames: "_Channel[VideoFrame]", clock: "_Clock") -> None:
    try:
        iterator = iter(source)
        while True:
            with clock.measure("decode"):
                frame = next(iterator, None)
            if frame is None or not frames.put(frame):
                break
    except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
        frames.finish(error)
    else:
        frames.finish()


def _write(results: "_Channel[Result]", write: Callable[[Result], None], clock: "_Clock") -> None:
    try:
        for result in results:
            with clock.measure("write"):
                write(result)
    except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
        results.close(error)


class _Clock:
    """Adds up the seconds of work of each part."""

    def __init__(self) -> None:
        self.busy = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.busy[part] += time.perf_counter() - start


class _Channel(Generic[Item]):
    """A short queue between two threads that either of them can end.

    Attributes:
        error: why one of them ended it, if that was an error.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_closed = False

    def put(self, item: Item) -> bool:
        """Append an item, waiting for room; return False if the reader has closed the channel."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < _QUEUE_LENGTH or self._is_closed)
            if self._is_closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self, error: BaseException | None = None) -> None:
        """Say, as the one who puts, that nothing follows; the reader then meets the error."""
        with self._changed:
            self._is_finished = True
            self.error = self.error or error
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """Say, as the reader, that no further item is taken, and drop the rest."""
        with self._changed:
            self._is_closed = True
            self.error = self.error or error
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in order; raise the error of `finish` after the last."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_finished)
                if not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
        if self.error and not self._is_closed:
            raise self.error
