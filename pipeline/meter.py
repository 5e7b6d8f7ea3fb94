"""Counts bytes as they pass, and tells how many megabytes of how many, and how fast."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

_MEGABYTE = 10**6
_SECONDS_BETWEEN = 0.2
_SECONDS_LOOKED_BACK = 10.0


class Progress(Protocol):
    """Shows how far a piece of work is."""

    def __call__(self, done: int, total: int, words: str = "") -> None:
        """Show pieces done, of how many, and a few words about the last one."""


class Meter:
    """Tells `progress` what passes, a few times per second, and at the end.

    Args:
        progress: called with megabytes (begun ones count) and, where `tells_speed`, with `34 MB/s`.
        total: bytes expected; `total` may be corrected while they pass.
        tells_speed: whether words are told at all.
        clock: seconds.
    """

    def __init__(
        self,
        progress: Progress,
        total: int,
        *,
        tells_speed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self._progress = progress
        self._tells_speed = tells_speed
        self._clock = clock
        self._done = 0
        self._last = -math.inf
        self._seen = deque([(clock(), 0)])

    def add(self, count: int) -> None:
        """Note that so many bytes have passed; what has to be done again counts negatively."""
        self._done += count
        now = self._clock()
        if self._done < self.total and now - self._last < _SECONDS_BETWEEN:
            return
        self._last = now
        self._seen.append((now, self._done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _SECONDS_LOOKED_BACK:
            self._seen.popleft()
        done, total = math.ceil(self._done / _MEGABYTE), math.ceil(self.total / _MEGABYTE)
        if self._tells_speed:
            self._progress(done, total, self._speed())
        else:
            self._progress(done, total)

    def _speed(self) -> str:
        (since, before), (now, done) = self._seen[0], self._seen[-1]
        if now <= since:
            return ""
        return f"{max(0, done - before) / (now - since) / _MEGABYTE:.3g} MB/s"


def in_words(count: int) -> str:
    """Bytes as people say them: `11.6 GB`, `252.6 MB`, `17 bytes`."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
