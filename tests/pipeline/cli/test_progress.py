import time

import pytest

from pipeline.cli import progress
from segformer.training.state import StepRecord


def test_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Off a terminal there are plain lines: what, how far, of what; the last one always."""
    with progress.show_progress("pack", "frames") as advance:
        advance(1, 3)
        advance(3, 3)
    assert "pack: 3/3 frames" == capsys.readouterr().out.splitlines()[-1]


def test_a_long_line_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Off a terminal a line is as long as it is: a log has no columns."""
    words = "loss 0.668, 4.0 images/s, val mIoU 13.8%, and words that go on and on and on and on"
    with progress.show_progress("train ce-0", "steps") as advance:
        advance(6000, 6000, words)
    assert [f"train ce-0: 6000/6000 steps, {words}"] == capsys.readouterr().out.splitlines()


def test_few_lines_for_many_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand quick pieces do not make a thousand lines."""
    with progress.show_progress("pack", "frames") as advance:
        for done in range(1, 1001):
            advance(done, 1000)
    assert len(capsys.readouterr().out.splitlines()) <= 2


def test_a_training_tells_loss_speed_and_miou() -> None:
    """The words of a record: loss, images per second, and mIoU only where it was validated."""
    told: list[str] = []
    report = progress.make_training_reporter(lambda done, total, words="": told.append(words))
    report(StepRecord(10, 20, 1.2345, 1e-3, 12.34, None))
    report(StepRecord(20, 20, 1.0, 0.0, 12.34, 0.256))
    assert ["loss 1.234, 12.3 images/s", "loss 1.000, 12.3 images/s, val mIoU 25.6%"] == told


def test_both_takers_get_each_record() -> None:
    """A record handed to two takers reaches both."""
    first: list[StepRecord] = []
    second: list[StepRecord] = []
    record = StepRecord(1, 1, 0.0, 0.0, 1.0, None)
    progress.combine_reporters(first.append, second.append)(record)
    assert [record] == first == second


@pytest.mark.parametrize(
    ("passed", "words"),
    [(0.04, "4 s left"), (1.0, "1:39 min left"), (36.36, "1:00 h left"), (106.07, "2:55 h left")],
)
def test_a_long_wait_is_told_in_hours(
    passed: float,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is left is told in the unit that one thinks of it in; a hundredth is done here."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with progress.show_progress("download", "MB") as advance:
        clock[0] = passed
        advance(1, 100, "34 MB/s")
    assert f"download: 1/100 MB, 34 MB/s, {words}\n" == capsys.readouterr().out
