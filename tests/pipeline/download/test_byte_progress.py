import pytest

from pipeline.download.byte_progress import ByteProgress
from pipeline.formatting import format_bytes


class Watch:
    """A clock that is set by hand, and what was shown."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.shown: list[tuple[object, ...]] = []

    def meter(self, total: int, *, tells_speed: bool) -> ByteProgress:
        """A meter that goes by this clock."""
        return ByteProgress(
            lambda *told: self.shown.append(told),
            total,
            show_speed=tells_speed,
            clock=lambda: self.seconds,
        )


def test_speed_is_of_the_last_seconds() -> None:
    """After a minute at 1 MB/s and ten seconds at 3 MB/s, the speed is 3 MB/s."""
    watch = Watch()
    meter = watch.meter(200_000_000, tells_speed=True)
    for second in range(1, 72):
        watch.seconds = second
        meter.add(1_000_000 if second <= 60 else 3_000_000)
    assert (93, 200, "3 MB/s") == watch.shown[-1]


def test_few_calls_and_the_last_one() -> None:
    """Many pieces in a moment are shown once or twice, and the end always."""
    watch = Watch()
    meter = watch.meter(10_000_000, tells_speed=False)
    for _ in range(1000):
        meter.add(10_000)
    assert [(1, 10), (10, 10)] == watch.shown


def test_the_total_may_be_corrected() -> None:
    """What turns out to be larger than was thought is not shown as done."""
    watch = Watch()
    meter = watch.meter(1_000_000, tells_speed=False)
    meter.total += 2_000_000
    meter.add(1_000_000)
    assert [(1, 3)] == watch.shown


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (252_567_705, "252.6 MB"), (11_592_327_197, "11.6 GB")],
)
def test_bytes_in_words(count: int, words: str) -> None:
    """Bytes as a shop would write them on a disk."""
    assert words == format_bytes(count)
