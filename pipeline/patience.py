"""Patience with a server on a bad day: trying again after pauses that grow, until it is enough."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

Say = Callable[[str], None]
"""Told a sentence that a person should see."""

_T = TypeVar("_T")


class PassingError(Exception):
    """Trouble that another try may not meet.

    Args:
        words: what happened.
        arrived: bytes that this try brought before it.
        not_before: seconds that the server asked to be left alone.
    """

    def __init__(self, words: str, *, arrived: int = 0, not_before: float = 0.0) -> None:
        super().__init__(words)
        self.arrived = arrived
        self.not_before = not_before


class GaveUpError(ValueError):
    """Patience is at its end; the text says after how many tries, and what the last one met."""


@dataclass(frozen=True)
class Patience:
    """How long to wait, and how often to try again.

    Attributes:
        say: told of every further try.
        tries: in a row that bring nothing, before giving up.
        first_pause: seconds, before the third try; the second follows at once, later ones wait
            twice as long each time.
        longest_pause: seconds.
        connecting: seconds until the server has to take the call.
        answering: seconds until a page, or the first word of a file, has to be here whole.
        silence: seconds between two pieces of an answer.
        slowest: bytes per second, over `silence`; what is slower is taken for stuck.
        worthwhile: bytes; after a try that brought as many, counting starts anew.
        sleep: how to pause.
    """

    say: Say = lambda _: None
    tries: int = 9
    first_pause: float = 2.0
    longest_pause: float = 120.0
    connecting: float = 20.0
    answering: float = 120.0
    silence: float = 60.0
    slowest: float = 1024.0
    worthwhile: int = 1 << 20
    sleep: Callable[[float], None] = time.sleep

    def insist(self, attempt: Callable[[], _T]) -> _T:
        """Try until it works.

        Raises:
            GaveUpError: if it did not.
        """
        fresh = Retry(
            total=self.tries - 1,
            backoff_factor=self.first_pause / 2,
            backoff_max=self.longest_pause,
        )
        retries = fresh
        while True:
            try:
                return attempt()
            except PassingError as trouble:
                if trouble.arrived >= self.worthwhile:
                    retries = fresh
                try:
                    retries = retries.increment(error=trouble)
                except MaxRetryError:
                    raise GaveUpError(f"gave up after {self.tries} tries: {trouble}") from None
                asked_for = min(trouble.not_before, self.longest_pause)
                pause = max(retries.get_backoff_time(), asked_for)
                when = f"in {pause:.0f} s" if pause else "at once"
                self.say(f"{trouble}: trying again {when}")
                self.sleep(pause)
