import errno
import os
from collections.abc import Iterator

import pytest

from pipeline.doctor.finding import Finding, describe_error, guard

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
