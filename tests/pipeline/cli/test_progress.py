import time

import pytest

from pipeline.cli import progress
from segformer.training.state import StepRecord


def test_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal progress is printed as lines, always including the last one."""
    with progress.show_progress("pack", "frames") as advance:
        advance(1, 3)
        advance(3, 3)
    assert "pack: 3/3 frames" == capsys.readouterr().out.splitlines()[-1]


def test_long_line_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a long line is not wrapped."""
    words = "loss 0.668, 4.0 images/s, val mIoU 13.8%, and further details up to 100 characters"
    with progress.show_progress("train ce-0", "steps") as advance:
        advance(6000, 6000, words)
    assert [f"train ce-0: 6000/6000 steps, {words}"] == capsys.readouterr().out.splitlines()


def test_lines_are_rate_limited(capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand quick updates print at most two lines."""
    with progress.show_progress("pack", "frames") as advance:
        for done in range(1, 1001):
            advance(done, 1000)
    assert len(capsys.readouterr().out.splitlines()) <= 2


def test_training_report_has_loss_speed_and_miou() -> None:
    """A step record is shown as loss, images per second, and mIoU if it was validated."""
    lines: list[str] = []
    report = progress.make_training_reporter(lambda done, total, words="": lines.append(words))
    report(StepRecord(10, 20, 1.2345, 1e-3, 12.34, None))
    report(StepRecord(20, 20, 1.0, 0.0, 12.34, 0.256))
    assert ["loss 1.234, 12.3 images/s", "loss 1.000, 12.3 images/s, val mIoU 25.6%"] == lines


def test_combined_reporters_get_each_record() -> None:
    """Each record is passed to both reporters."""
    first: list[StepRecord] = []
    second: list[StepRecord] = []
    record = StepRecord(1, 1, 0.0, 0.0, 1.0, None)
    progress.combine_reporters(first.append, second.append)(record)
    assert [record] == first == second


@pytest.mark.parametrize(
    ("elapsed", "remaining"),
    [(0.04, "4 s left"), (1.0, "1:39 min left"), (36.36, "1:00 h left"), (106.07, "2:55 h left")],
)
def test_remaining_time_has_a_suitable_unit(
    elapsed: float,
    remaining: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The remaining time is in seconds, minutes or hours; 1 % of the work is done here."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with progress.show_progress("download", "MB") as advance:
        clock[0] = elapsed
        advance(1, 100, "34 MB/s")
    assert f"download: 1/100 MB, 34 MB/s, {remaining}\n" == capsys.readouterr().out
