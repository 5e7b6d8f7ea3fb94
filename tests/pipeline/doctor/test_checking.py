import errno
import os
from collections.abc import Iterator

import pytest

from pipeline.doctor.finding import Finding, describe_error, guard

WELL = Finding("disk", True, "room enough")


def test_one_finding_or_several() -> None:
    """A check may give either."""
    assert [WELL] == guard("disk", lambda: WELL)
    assert [WELL, WELL] == guard("disk", lambda: iter((WELL, WELL)))


def test_what_was_found_before_it_broke_is_kept() -> None:
    """The line about the break stands behind it."""

    def check() -> Iterator[Finding]:
        yield WELL
        raise ValueError("no such disk")

    first, second = guard("disk", check)
    assert WELL == first
    assert ("disk", False) == (second.topic, second.ok)
    assert "(no such disk)" in second.message


def test_a_mistake_of_ours_is_not_swallowed() -> None:
    """What no broken file can cause has to be seen."""
    with pytest.raises(ZeroDivisionError):
        guard("disk", lambda: 1 / 0)  # type: ignore[arg-type, return-value]


def test_a_missing_right_names_the_file() -> None:
    """As the system refuses a file of somebody else's."""
    trouble = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/frames.csv")
    assert "/data/frames.csv may not be looked at: `ls -ld` shows whose" in describe_error(trouble)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (OSError(errno.EIO, "Input/output error", "/data"), "/data cannot be looked at (Input/"),
        (OSError("no socket"), "(no socket)"),
        (ImportError("libcudart.so.13: not found"), "loaded (libcudart.so.13: not found): `pip"),
        (RuntimeError("CUDA error\nmore"), "(CUDA error): mend that"),
        (MemoryError(), "(MemoryError)"),
    ],
)
def test_what_broke_it_is_told(trouble: Exception, told: str) -> None:
    """In one line."""
    assert told in describe_error(trouble)
    assert 1 == len(describe_error(trouble).splitlines())
