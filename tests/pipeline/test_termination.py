import signal
import threading

import pytest

from pipeline import termination


def be_terminated() -> None:
    """Get SIGTERM; where nobody would hear it, fail instead of ending the test run."""
    with termination.unwinding():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_unwinds() -> None:
    """SIGTERM becomes SystemExit with the shell's code for it, and afterwards is what it was."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as stop:
            be_terminated()
        assert 143 == stop.value.code
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_who_listens_already_is_left_alone() -> None:
    """A handler of someone else, Prefect's for example, stays."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with termination.unwinding():
            signal.raise_signal(signal.SIGTERM)
        assert [signal.SIGTERM] == heard
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_done() -> None:
    """Only the main thread may set handlers; elsewhere the work runs as it is."""
    worked: list[bool] = []

    def work() -> None:
        with termination.unwinding():
            worked.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [True] == worked
