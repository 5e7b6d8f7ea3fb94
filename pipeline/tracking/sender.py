"""A thread that sends a journal while it is being written, so that nobody waits for MLflow."""

import logging
import threading
import time
from collections.abc import Callable

from pipeline import store
from pipeline.tracking.delivery import Delivery

_EVERY = 2.0  # seconds; a fast training must not cost a round trip per step
_PAUSES = (5.0, 60.0)  # seconds; the first after a failure, and the longest
_logger = logging.getLogger("pipeline.tracking")


class Sender:
    """Sends until it is told to finish; a store that is away is asked again now and then.

    Args:
        delivery: of the journal.
        each_turn: called every few seconds.
    """

    def __init__(self, delivery: Delivery, each_turn: Callable[[], None]) -> None:
        self._delivery = delivery
        self._each_turn = each_turn
        self._has_tried = threading.Event()
        self._closing = threading.Event()
        self._failed_at: float | None = None
        self._has_warned = False
        # A daemon, because the process does not wait for a call that hangs.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def start(self, patience: float) -> float:
        """Begin; wait for the first attempt, at most so many seconds, and return what is left."""
        began = time.monotonic()
        self._thread.start()
        self._has_tried.wait(patience)
        return max(0.0, patience - (time.monotonic() - began))

    def finish(self, patience: float) -> bool:
        """Send the rest within so many seconds; whether all of it has arrived."""
        self._closing.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            self._warn(TimeoutError(f"no answer within {patience:.0f} seconds"))
            return False
        return self._delivery.is_whole

    def _work(self) -> None:
        due = pause = 0.0
        while not self._closing.is_set():
            if time.monotonic() >= due:
                self._advance()
                first, longest = _PAUSES
                pause = 0.0 if self._failed_at is None else min(max(first, 2 * pause), longest)
                due = time.monotonic() + pause
            self._each_turn()
            self._closing.wait(_EVERY)
        if self._failed_at is None or time.monotonic() - self._failed_at > _PAUSES[0]:
            self._advance()

    def _advance(self) -> None:
        trouble = self._delivery.advance()
        self._failed_at = time.monotonic() if self._delivery.is_cut_off else None
        if trouble:
            self._warn(trouble)
        self._has_tried.set()

    def _warn(self, trouble: Exception) -> None:
        if not self._has_warned:
            _logger.warning(store.failure(trouble))
        self._has_warned = True
