"""The result of a check, how results are formatted, and how a failing check becomes a result."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

CHECK_ERRORS = (OSError, ValueError, ImportError, RuntimeError, MemoryError)
"""Errors that a damaged file or a broken machine causes; PyTorch raises RuntimeError for a device.

KeyError and TypeError are left out: code that reads files raises ValueError for missing entries, so
these are bugs, which should surface.
"""

_TOPIC_WIDTH = 13  # columns
_STATUS_WIDTH = 6


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        topic: what was checked, in a word or two.
        ok: whether it is in order.
        message: the result and, unless it is in order, what to do.
        table: lines to print below the message unchanged.
    """

    topic: str
    ok: bool
    message: str
    table: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.topic}: {self.status}: {self.message}"

    @property
    def status(self) -> str:
        """`ok` or `FAIL`."""
        return "ok" if self.ok else "FAIL"


def format_findings(
    findings: Sequence[Finding],
    *,
    width: int | None = None,
    style_topic: Callable[[str], str] = str,
    style_status: Callable[[str], str] = str,
) -> Iterator[str]:
    """Format findings in three columns, topic, status and message, and count the problems.

    Args:
        findings: in order of output; findings of one topic are adjacent.
        width: columns of the terminal, to which messages are wrapped; None for a log, where a
            message is one line.
        style_topic: adds color to a topic.
        style_status: adds color to `ok` or `FAIL`.
    """
    indent = " " * (_TOPIC_WIDTH + _STATUS_WIDTH)
    previous = ""
    for finding in findings:
        topic = "" if finding.topic == previous else finding.topic
        previous = finding.topic
        columns = max(width - len(indent), 40) if width else 10**6
        first, *rest = textwrap.wrap(
            finding.message, columns, break_long_words=False, break_on_hyphens=False
        )
        status = style_status(finding.status) + " " * (_STATUS_WIDTH - len(finding.status))
        yield style_topic(topic) + " " * (_TOPIC_WIDTH - len(topic)) + status + first
        yield from (indent + line for line in (*rest, *finding.table))
    num_problems = sum(not finding.ok for finding in findings)
    yield ""
    match num_problems:
        case 0:
            yield "no problems found"
        case 1:
            yield "1 problem found"
        case _:
            yield f"{num_problems} problems found"


def guard(topic: str, check: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    """Run a check and return its findings; if it fails, add a finding with the error.

    Args:
        topic: topic of the finding with the error.
        check: returns one finding or several.
    """
    findings: list[Finding] = []
    try:
        result = check()
        for finding in [result] if isinstance(result, Finding) else result:
            findings.append(finding)  # noqa: PERF402  findings before an error are kept
    except CHECK_ERRORS as error:
        findings.append(Finding(topic, False, describe_error(error)))
    return findings


def describe_error(error: Exception) -> str:
    """Return one line: what a check could not do, and what to do about it."""
    if isinstance(error, PermissionError) and error.filename:
        remedy = "`ls -ld` shows its owner; give yourself read permission"
        return f"{error.filename} cannot be read, permission denied: {remedy}"
    if isinstance(error, OSError) and error.filename:
        remedy = "fix or remove it; further checks of it were skipped"
        return f"{error.filename} cannot be read ({error.strerror}): {remedy}"
    if isinstance(error, ImportError):
        remedy = "`pip install -r requirements.lock` in a new virtual environment"
        return f"a package cannot be imported ({error}): {remedy}"
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return f"the check failed ({reason}): fix the cause, then run `segformer doctor` again"
