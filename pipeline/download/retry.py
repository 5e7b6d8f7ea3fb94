"""The retry policy of a download: number of attempts, pauses and timeouts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Notify = Callable[[str], None]
"""Called with a sentence for the user."""

_T = TypeVar("_T")


class TransientError(Exception):
    """A temporary error; the operation can be retried.

    Args:
        message: what happened.
        num_bytes: bytes that the attempt received before it failed.
        retry_after: seconds that the server asked to wait.
    """

    def __init__(self, message: str, *, num_bytes: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.num_bytes = num_bytes
        self.retry_after = retry_after


class RetriesExhaustedError(ValueError):
    """All attempts failed; the message says how many, and the error of the last one."""


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts, pauses and timeouts.

    Attributes:
        notify: called before each further attempt.
        max_tries: failed attempts in a row without progress, after which to give up.
        initial_delay: seconds before the third attempt; the second follows at once, and each
            later pause is twice as long as the one before it.
        max_delay: seconds; the longest pause.
        connect_timeout: seconds until a connection is open.
        response_timeout: seconds until a page is complete, or the headers of a file have arrived.
        read_timeout: seconds between two pieces of a response.
        min_speed: bytes per second, averaged over `read_timeout`; a slower transfer counts as
            stalled.
        min_progress: bytes; an attempt that received as many resets the count of failures.
        sleep: pauses for a number of seconds.
    """

    notify: Notify = lambda _: None
    max_tries: int = 9
    initial_delay: float = 2.0
    max_delay: float = 120.0
    connect_timeout: float = 20.0
    response_timeout: float = 120.0
    read_timeout: float = 60.0
    min_speed: float = 1024.0
    min_progress: int = 1 << 20
    sleep: Callable[[float], None] = time.sleep

    def call(self, attempt: Callable[[], _T]) -> _T:
        """Call a function again for as long as it raises a TransientError.

        Raises:
            RetriesExhaustedError: if it failed too often in a row.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except TransientError as error:
                failures = 1 if error.num_bytes >= self.min_progress else failures + 1
                if failures >= self.max_tries:
                    raise RetriesExhaustedError(
                        f"gave up after {self.max_tries} tries: {error}"
                    ) from None
                pause = self._delay(failures, error.retry_after)
                when = f"in {pause:.0f} s" if pause else "at once"
                self.notify(f"{error}: trying again {when}")
                self.sleep(pause)

    def _delay(self, failures: int, retry_after: float) -> float:
        """Seconds to wait after so many failures in a row."""
        backoff = self.initial_delay * 2.0 ** (failures - 2) if failures > 1 else 0.0
        return min(max(backoff, retry_after), self.max_delay)
