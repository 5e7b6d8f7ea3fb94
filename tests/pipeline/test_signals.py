"""pipeline.signals: SIGTERM and ctrl-C unwind the stack, within a deadline."""

import signal
import subprocess
import sys
import threading

import pytest

from pipeline import process_group, signals, torchrun


def receive_sigterm() -> None:
    """Raise SIGTERM; without a handler, fail instead of ending the test run."""
    with signals.exit_on_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_becomes_system_exit() -> None:
    """SIGTERM raises SystemExit with the shell's code for it; the handler is restored."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as stop:
            receive_sigterm()
        assert 143 == stop.value.code
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_existing_handler_is_kept() -> None:
    """A handler that is already installed, such as Prefect's, stays."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with signals.exit_on_sigterm():
            signal.raise_signal(signal.SIGTERM)
        assert [signal.SIGTERM] == received
    finally:
        signal.signal(signal.SIGTERM, before)


def test_no_handler_outside_the_main_thread() -> None:
    """Only the main thread may set handlers; elsewhere the block runs without one."""
    completed: list[bool] = []

    def work() -> None:
        with signals.exit_on_sigterm():
            completed.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [True] == completed


def exit_code(*numbers: int, requests: list[bool], seconds: float = 0.0) -> object:
    """The exit code of work during which these signals arrive."""
    with pytest.raises(SystemExit) as stop:
        work_through_signals(*numbers, requests=requests, seconds=seconds)
    return stop.value.code


def work_through_signals(*numbers: int, requests: list[bool], seconds: float) -> None:
    """Receive signals, work on for some seconds, then record whether a stop was requested."""
    with signals.catch_stop_signals() as is_stopping:
        for number in numbers:
            signal.raise_signal(number)
        threading.Event().wait(seconds)
        requests.append(is_stopping())


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_changes_nothing(second: int) -> None:
    """A scheduler's SIGTERM and the one that torchrun forwards are one request: work continues."""
    requests: list[bool] = []
    assert 143 == exit_code(signal.SIGTERM, second, requests=requests)
    assert [True] == requests


def test_a_second_ctrl_c_ends_at_once() -> None:
    """A second ctrl-C does not wait for the end of the step."""
    requests: list[bool] = []
    assert 130 == exit_code(signal.SIGINT, signal.SIGINT, requests=requests)
    assert [] == requests


def test_the_grace_period_ends_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that never checks for a stop request is unwound after GRACE_SECONDS."""
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.05)
    requests: list[bool] = []
    assert 143 == exit_code(signal.SIGTERM, requests=requests, seconds=10)
    assert [] == requests


def test_one_long_call_is_ended_by_force() -> None:
    """Python runs no handler in a call of minutes: the process still ends, with the same code."""
    work = """
import hashlib
from pipeline import signals
signals.GRACE_SECONDS, signals.FORCED_EXIT_SECONDS = 0.1, 0.2
with signals.catch_stop_signals():
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**30)
"""
    process = subprocess.Popen([sys.executable, "-c", work], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert b"begun\n" == process.stdout.readline()
        process.terminate()
        try:
            assert 143 == process.wait(timeout=20)
        finally:
            process.kill()


def test_outer_grace_periods_are_longer() -> None:
    """In order: training, its watcher thread, torchrun, the flow, and Prefect, which waits 30 s."""
    inner = (signals.GRACE_SECONDS, signals.FORCED_EXIT_SECONDS)
    order = [*inner, torchrun.GRACE_SECONDS, process_group.GRACE_SECONDS, 30]
    assert sorted(set(order)) == order
