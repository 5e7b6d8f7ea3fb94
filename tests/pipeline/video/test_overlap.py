import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.video.frames import Cut, VideoFrame
from pipeline.video.overlap import transform_frames

WAIT_S = 10.0  # long enough for a busy machine; a test that passes does not wait


class CountingSource:
    """A film that counts the frames it has given out."""

    path = Path("drive.mp4")
    name = "drive"
    rows = columns = 4
    frame_rate = Fraction(25)
    time_base = Fraction(1, 25)
    cut = Cut()
    has_audio = False
    damage = None

    def __init__(self, num_frames: int, error: Exception | None = None) -> None:
        self.num_frames = num_frames
        self.num_decoded = 0
        self._error = error

    def __iter__(self) -> Iterator[VideoFrame]:
        for k in range(self.num_frames):
            self.num_decoded += 1
            yield VideoFrame(np.full((4, 4, 3), k % 256, np.uint8), Fraction(k, 25), str(k))
        if self._error:
            raise self._error


def test_results_are_written_in_order() -> None:
    """Each frame is processed once and its result written in order; progress is complete."""
    written: list[int] = []
    steps: list[tuple[int, int]] = []
    timings = transform_frames(
        CountingSource(50),
        lambda frame: int(frame.label),
        written.append,
        lambda done, total, _: steps.append((done, total)),
    )
    assert list(range(50)) == written
    assert (50, 50) == steps[-1]
    assert 50 == timings.num_frames


def test_parts_run_at_the_same_time() -> None:
    """The next frame is decoded, and the one before written, while a frame is processed."""
    meeting = threading.Barrier(2, timeout=WAIT_S)
    source = CountingSource(6)

    def process(frame: VideoFrame) -> str:
        deadline = time.monotonic() + WAIT_S
        while source.num_decoded < min(int(frame.label) + 2, 6):
            assert time.monotonic() < deadline, "the next frame is not decoded"
            time.sleep(0.001)
        if frame.label != "0":
            meeting.wait()  # for the writing of the frame before
        return frame.label

    def write(label: str) -> None:
        if label != "5":
            meeting.wait()

    assert 6 == transform_frames(source, process, write).num_frames


def test_queues_are_short() -> None:
    """Decoding is at most a dozen frames ahead of writing, however long the film is."""
    source = CountingSource(300)
    ahead: list[int] = []
    num_written = 0

    def write(_: str) -> None:
        nonlocal num_written
        num_written += 1
        time.sleep(0.0005)
        ahead.append(source.num_decoded - num_written)

    transform_frames(source, lambda frame: frame.label, write)
    assert max(ahead) <= 12


def test_error_of_decoding() -> None:
    """An error of the decoder is raised after the frames before it were written."""
    written: list[str] = []
    with pytest.raises(ValueError, match="broken film"):
        transform_frames(
            CountingSource(3, ValueError("broken film")), lambda f: f.label, written.append
        )
    assert ["0", "1", "2"] == written


def test_error_of_processing() -> None:
    """An error of `process` ends decoding and is raised."""
    source = CountingSource(1000)

    def process(frame: VideoFrame) -> str:
        if frame.label == "5":
            raise ValueError("too small")
        return frame.label

    with pytest.raises(ValueError, match="too small"):
        transform_frames(source, process, lambda _: None)
    assert source.num_decoded < 20


def test_error_of_writing() -> None:
    """An error of `write` ends the others and is raised."""
    source = CountingSource(1000)

    def write(_: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        transform_frames(source, lambda frame: frame.label, write)
    assert source.num_decoded < 20


def test_interrupt_writes_what_is_processed() -> None:
    """After ctrl-C all results that were processed are written."""
    written: list[int] = []

    def process(frame: VideoFrame) -> int:
        if frame.label == "7":
            raise KeyboardInterrupt
        return int(frame.label)

    def write(index: int) -> None:
        time.sleep(0.002)
        written.append(index)

    with pytest.raises(KeyboardInterrupt):
        transform_frames(CountingSource(1000), process, write)
    assert list(range(7)) == written


def test_waiting_is_measured() -> None:
    """With a slow network, it hardly waits, and the other parts wait most of the time."""
    timings = transform_frames(CountingSource(10), lambda _: time.sleep(0.02), lambda _: None)
    assert timings.waiting_share("process") < 0.5
    assert timings.waiting_share("write") > 0.5
    assert 0.2 <= timings.seconds
