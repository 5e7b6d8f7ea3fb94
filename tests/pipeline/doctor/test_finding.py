import errno
import os
from collections.abc import Iterator

import pytest

from pipeline.doctor.finding import Finding, describe_error, format_findings, guard

LONG = Finding("disk", False, "12 GB free; a full run writes about 50 GB: free 39 GB more")
GOOD = Finding("labels", True, "label values of 2 frames", (" 7 road  90 %", " 8 sidewalk  10 %"))


def test_log_has_a_line_per_finding() -> None:
    """A log has topic, status and message in columns, tables unchanged, and the count last."""
    expected = [
        "disk         FAIL  12 GB free; a full run writes about 50 GB: free 39 GB more",
        "labels       ok    label values of 2 frames",
        "                    7 road  90 %",
        "                    8 sidewalk  10 %",
        "",
        "1 problem found",
    ]
    assert expected == list(format_findings([LONG, GOOD]))


def test_terminal_lines_are_wrapped() -> None:
    """Messages are wrapped in their column, and no word is lost."""
    lines = list(format_findings([LONG], width=60))[:-2]
    assert len(lines) > 1
    assert all(len(line) <= 60 for line in lines)
    assert all(line.startswith(" " * 19) for line in lines[1:])
    assert LONG.message == " ".join(line[19:] for line in lines)


def test_topic_is_printed_once() -> None:
    """The second finding of a topic has an empty topic column."""
    first, second, *_ = format_findings([Finding("git", True, "one"), Finding("git", True, "two")])
    assert first.startswith("git ")
    assert second == " " * 13 + "ok    two"


def test_last_line_counts_the_problems() -> None:
    """The last line has the number of problems, also if it is 0."""
    assert "no problems found" == list(format_findings([GOOD]))[-1]
    assert "2 problems found" == list(format_findings([LONG, GOOD, LONG]))[-1]


def test_colors_do_not_shift_the_columns() -> None:
    """Escape sequences surround the words, not the padding."""
    (line, *_) = format_findings(
        [LONG], style_topic=lambda text: f"<{text}>", style_status=lambda text: f"[{text}]"
    )
    assert line.startswith("<disk>         [FAIL]  12 GB free")


OK = Finding("disk", True, "enough space")


def test_check_returns_one_finding_or_several() -> None:
    """A check may return a finding or an iterable of findings."""
    assert [OK] == guard("disk", lambda: OK)
    assert [OK, OK] == guard("disk", lambda: iter((OK, OK)))


def test_findings_before_an_error_are_kept() -> None:
    """The finding about the error comes after them."""

    def check() -> Iterator[Finding]:
        yield OK
        raise ValueError("no such disk")

    first, second = guard("disk", check)
    assert OK == first
    assert ("disk", False) == (second.topic, second.ok)
    assert "(no such disk)" in second.message


def test_programming_error_is_raised() -> None:
    """An error that no damaged file can cause is not caught."""
    with pytest.raises(ZeroDivisionError):
        guard("disk", lambda: 1 / 0)  # type: ignore[arg-type, return-value]


def test_missing_permission_names_the_file() -> None:
    """The message for a file without read permission has its path and a remedy."""
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/frames.csv")
    expected = "/data/frames.csv cannot be read, permission denied: `ls -ld` shows its owner"
    assert expected in describe_error(error)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EIO, "Input/output error", "/data"), "/data cannot be read (Input/"),
        (OSError("no socket"), "(no socket)"),
        (ImportError("libcudart.so.13: not found"), "imported (libcudart.so.13: not found): `pip"),
        (RuntimeError("CUDA error\nmore"), "(CUDA error): fix the cause"),
        (MemoryError(), "(MemoryError)"),
    ],
)
def test_error_is_described_in_one_line(error: Exception, message: str) -> None:
    """The description has the reason and a remedy, in one line."""
    assert message in describe_error(error)
    assert 1 == len(describe_error(error).splitlines())
