import signal
import subprocess
import sys
import threading

import pytest

from pipeline import process_group, torchrun
from pipeline import signals as signals_module


def be_terminated() -> None:
    """Get SIGTERM; where nobody would hear it, fail instead of ending the test run."""
    with signals_module.exit_on_sigterm():
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
        with signals_module.exit_on_sigterm():
            signal.raise_signal(signal.SIGTERM)
        assert [signal.SIGTERM] == heard
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_done() -> None:
    """Only the main thread may set handlers; elsewhere the work runs as it is."""
    worked: list[bool] = []

    def work() -> None:
        with signals_module.exit_on_sigterm():
            worked.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [True] == worked


def code_of_work(*signals: int, heard: list[bool], seconds: float = 0.0) -> object:
    """Be asked by these signals, work on for some seconds, and note what is heard then."""
    with pytest.raises(SystemExit) as stop:
        do_work(*signals, heard=heard, seconds=seconds)
    return stop.value.code


def do_work(*signals: int, heard: list[bool], seconds: float) -> None:
    """Work that never looks whether it should stop until its end."""
    with signals_module.catch_stop_signals() as is_stopping:
        for number in signals:
            signal.raise_signal(number)
        threading.Event().wait(seconds)
        heard.append(is_stopping())


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_says_nothing_new(second: int) -> None:
    """A scheduler's SIGTERM and the one that torchrun passes on are one request: work goes on."""
    heard: list[bool] = []
    assert 143 == code_of_work(signal.SIGTERM, second, heard=heard)
    assert [True] == heard


def test_a_second_ctrl_c_ends_at_once() -> None:
    """A person who insists does not wait for the end of the step."""
    heard: list[bool] = []
    assert 130 == code_of_work(signal.SIGINT, signal.SIGINT, heard=heard)
    assert [] == heard


def test_patience_ends_work_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who never looks whether to stop is unwound."""
    monkeypatch.setattr(signals_module, "GRACE_SECONDS", 0.05)
    heard: list[bool] = []
    assert 143 == code_of_work(signal.SIGTERM, heard=heard, seconds=10)
    assert [] == heard


def test_one_long_call_is_ended_on_the_spot() -> None:
    """Python runs no handler in a call of minutes: the process ends all the same, with the code."""
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


def test_who_waits_outside_waits_longer() -> None:
    """A training, the thread that watches it, torchrun, the flow, and Prefect, which waits 30 s."""
    inner = (signals_module.GRACE_SECONDS, signals_module.FORCED_EXIT_SECONDS)
    order = [*inner, torchrun.GRACE_SECONDS, process_group.GRACE_SECONDS, 30]
    assert sorted(set(order)) == order
