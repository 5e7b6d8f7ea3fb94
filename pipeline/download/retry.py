"""Patience with a server on a bad day: trying again after pauses that grow, until it is enough."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

Notify = Callable[[str], None]
"""Told a sentence that a person should see."""

_T = TypeVar("_T")


class TransientError(Exception):
    """Trouble that another try may not meet.

    Args:
        message: what happened.
        num_bytes: bytes that this try brought before it.
        retry_after: seconds that the server asked to be left alone.
    """

    def __init__(self, message: str, *, num_bytes: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.num_bytes = num_bytes
        self.retry_after = retry_after


class RetriesExhaustedError(ValueError):
    """Patience is at its end; the text says after how many tries, and what the last one met."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait, and how often to try again.

    Attributes:
        notify: told of every further try.
        max_tries: in a row that bring nothing, before giving up.
        initial_delay: seconds, before the third try; the second follows at once, later ones wait
            twice as long each time.
        max_delay: seconds.
        connect_timeout: seconds until the server has to take the call.
        response_timeout: seconds until a page, or the first word of a file, has to be here whole.
        read_timeout: seconds between two pieces of an answer.
        min_speed: bytes per second, over `read_timeout`; what is slower is taken for stuck.
        min_progress: bytes; after a try that brought as many, counting starts anew.
        sleep: how to pause.
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
        """Try until it works.

        Raises:
            GaveUpError: if it did not.
        """
        fresh = Retry(
            total=self.max_tries - 1,
            backoff_factor=self.initial_delay / 2,
            backoff_max=self.max_delay,
        )
        retries = fresh
        while True:
            try:
                return attempt()
            except TransientError as trouble:
                if trouble.num_bytes >= self.min_progress:
                    retries = fresh
                try:
                    retries = retries.increment(error=trouble)
                except MaxRetryError:
                    raise RetriesExhaustedError(
                        f"gave up after {self.max_tries} tries: {trouble}"
                    ) from None
                asked_for = min(trouble.retry_after, self.max_delay)
                pause = max(retries.get_backoff_time(), asked_for)
                when = f"in {pause:.0f} s" if pause else "at once"
                self.notify(f"{trouble}: trying again {when}")
                self.sleep(pause)
