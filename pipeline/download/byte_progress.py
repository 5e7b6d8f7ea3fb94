"""Reports progress in megabytes, and the speed of a transfer."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

_MEGABYTE = 10**6
_UPDATE_INTERVAL = 0.2  # seconds
_SPEED_WINDOW = 10.0  # seconds


class ProgressCallback(Protocol):
    """Displays the progress of a task."""

    def __call__(self, done: int, total: int, words: str = "") -> None:
        """Display the units done, the total, and a short text such as the speed."""


class ByteProgress:
    """Calls `progress` a few times per second, and at the end.

    Args:
        progress: called with megabytes, rounded up, and with `34 MB/s` if `show_speed`.
        total: bytes expected; the attribute `total` may be corrected during the transfer.
        show_speed: whether to pass the speed.
        clock: returns seconds.
    """

    def __init__(
        self,
        progress: ProgressCallback,
        total: int,
        *,
        show_speed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self._progress = progress
        self._show_speed = show_speed
        self._clock = clock
        self._num_done = 0
        self._last_update = -math.inf
        self._samples = deque([(clock(), 0)])

    def add(self, num_bytes: int) -> None:
        """Count bytes; a negative number for bytes that have to be transferred again."""
        self._num_done += num_bytes
        now = self._clock()
        if self._num_done < self.total and now - self._last_update < _UPDATE_INTERVAL:
            return
        self._last_update = now
        self._samples.append((now, self._num_done))
        while len(self._samples) > 2 and now - self._samples[0][0] > _SPEED_WINDOW:
            self._samples.popleft()
        done, total = math.ceil(self._num_done / _MEGABYTE), math.ceil(self.total / _MEGABYTE)
        if self._show_speed:
            self._progress(done, total, self._speed())
        else:
            self._progress(done, total)

    def _speed(self) -> str:
        (since, before), (now, done) = self._samples[0], self._samples[-1]
        if now <= since:
            return ""
        return f"{max(0, done - before) / (now - since) / _MEGABYTE:.3g} MB/s"
