"""pipeline.download.byte_progress: progress in megabytes, and speed."""

import pytest

from pipeline.download.byte_progress import ByteProgress
from pipeline.formatting import format_bytes


class FakeDisplay:
    """A clock that the test sets, and the recorded progress."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.progress: list[tuple[object, ...]] = []

    def byte_progress(self, total: int, *, show_speed: bool) -> ByteProgress:
        """A ByteProgress with this clock."""
        return ByteProgress(
            lambda *values: self.progress.append(values),
            total,
            show_speed=show_speed,
            clock=lambda: self.seconds,
        )


def test_speed_is_of_the_last_seconds() -> None:
    """After a minute at 1 MB/s and ten seconds at 3 MB/s, the speed is 3 MB/s."""
    display = FakeDisplay()
    byte_progress = display.byte_progress(200_000_000, show_speed=True)
    for second in range(1, 72):
        display.seconds = second
        byte_progress.add(1_000_000 if second <= 60 else 3_000_000)
    assert (93, 200, "3 MB/s") == display.progress[-1]


def test_updates_are_rate_limited() -> None:
    """Many pieces in a moment are one or two updates; the end is always reported."""
    display = FakeDisplay()
    byte_progress = display.byte_progress(10_000_000, show_speed=False)
    for _ in range(1000):
        byte_progress.add(10_000)
    assert [(1, 10), (10, 10)] == display.progress


def test_the_total_may_be_corrected() -> None:
    """After a correction of the total, progress is relative to the new one."""
    display = FakeDisplay()
    byte_progress = display.byte_progress(1_000_000, show_speed=False)
    byte_progress.total += 2_000_000
    byte_progress.add(1_000_000)
    assert [(1, 3)] == display.progress


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (252_567_705, "252.6 MB"), (11_592_327_197, "11.6 GB")],
)
def test_format_bytes(count: int, text: str) -> None:
    """Decimal units with one digit."""
    assert text == format_bytes(count)
