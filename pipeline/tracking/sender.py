"""A thread that sends a journal while it is being written, so that nobody waits for MLflow."""

import logging
import threading
import time
from collections.abc import Callable

from pipeline import store
from pipeline.tracking.delivery import Uploader

_TICK_SECONDS = 2.0  # seconds; a fast training must not cost a round trip per step
_RETRY_DELAYS = (5.0, 60.0)  # seconds; the first after a failure, and the longest
_logger = logging.getLogger("pipeline.tracking")


class BackgroundUploader:
    """Sends until it is told to finish; a store that is away is asked again now and then.

    Args:
        uploader: of the journal.
        on_tick: called every few seconds.
    """

    def __init__(self, uploader: Uploader, on_tick: Callable[[], None]) -> None:
        self._uploader = uploader
        self._on_tick = on_tick
        self._first_attempt_done = threading.Event()
        self._stop_requested = threading.Event()
        self._failed_at: float | None = None
        self._has_warned = False
        # A daemon, because the process does not wait for a call that hangs.
        self._thread = threading.Thread(target=self._upload_loop, name="mlflow", daemon=True)

    def start(self, timeout: float) -> float:
        """Begin; wait for the first attempt, at most so many seconds, and return what is left."""
        began = time.monotonic()
        self._thread.start()
        self._first_attempt_done.wait(timeout)
        return max(0.0, timeout - (time.monotonic() - began))

    def flush(self, timeout: float) -> bool:
        """Send the rest within so many seconds; whether all of it has arrived."""
        self._stop_requested.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn(TimeoutError(f"no answer within {timeout:.0f} seconds"))
            return False
        return self._uploader.is_complete

    def _upload_loop(self) -> None:
        due = pause = 0.0
        while not self._stop_requested.is_set():
            if time.monotonic() >= due:
                self._upload()
                first, longest = _RETRY_DELAYS
                pause = 0.0 if self._failed_at is None else min(max(first, 2 * pause), longest)
                due = time.monotonic() + pause
            self._on_tick()
            self._stop_requested.wait(_TICK_SECONDS)
        if self._failed_at is None or time.monotonic() - self._failed_at > _RETRY_DELAYS[0]:
            self._upload()

    def _upload(self) -> None:
        trouble = self._uploader.upload_pending()
        self._failed_at = time.monotonic() if self._uploader.is_interrupted else None
        if trouble:
            self._warn(trouble)
        self._first_attempt_done.set()

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            _logger.warning(store.describe_upload_failure(error))
        self._has_warned = True
