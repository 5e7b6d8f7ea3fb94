"""One thing that the doctor looked at, and how all of them read on a terminal and in a log."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

_TOPIC_WIDTH = 13  # columns
_STATUS_WIDTH = 6


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what it belongs to, in a word or two.
        ok: whether it is as it should be.
        message: what was found and, where it is not well, what to do.
        table: lines to be shown below it as they are.
    """

    topic: str
    ok: bool
    message: str
    table: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.topic}: {self.status}: {self.message}"

    @property
    def status(self) -> str:
        """`ok`, or `MEND` for what a person has to see to."""
        return "ok" if self.ok else "MEND"


def format_findings(
    findings: Sequence[Finding],
    *,
    width: int | None = None,
    style_topic: Callable[[str], str] = str,
    style_status: Callable[[str], str] = str,
) -> Iterator[str]:
    """All findings in three columns: topic, mark, sentence; then how many are to be mended.

    Args:
        findings: in the order in which they are told; those of a topic stand together.
        width: columns of the terminal, into which sentences are wrapped; None for a log, where a
            finding is one line.
        style_topic: colours a topic.
        style_status: colours `ok` or `MEND`.
    """
    indent = " " * (_TOPIC_WIDTH + _STATUS_WIDTH)
    before = ""
    for finding in findings:
        shown = "" if finding.topic == before else finding.topic
        before = finding.topic
        room = max(width - len(indent), 40) if width else 10**6
        first, *rest = textwrap.wrap(
            finding.message, room, break_long_words=False, break_on_hyphens=False
        )
        marked = style_status(finding.status) + " " * (_STATUS_WIDTH - len(finding.status))
        yield style_topic(shown) + " " * (_TOPIC_WIDTH - len(shown)) + marked + first
        yield from (indent + line for line in (*rest, *finding.table))
    wrong = sum(not finding.ok for finding in findings)
    things = "1 thing" if wrong == 1 else f"{wrong} things"
    yield ""
    yield f"{things} to mend" if wrong else "all is well"


CHECK_ERRORS = (OSError, ValueError, ImportError, RuntimeError, MemoryError)
"""What a broken machine or file raises; PyTorch's RuntimeError is a device that does not answer.

Not KeyError or TypeError: whoever reads a table or a file says ValueError where something lacks, so
that those are mistakes of ours, and seen.
"""


def guard(topic: str, check: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    """What a check finds; where it breaks, what it had found until then, and a line about that.

    Args:
        topic: of that line.
        check: gives one finding or several.
    """
    found: list[Finding] = []
    try:
        one_or_more = check()
        for finding in [one_or_more] if isinstance(one_or_more, Finding) else one_or_more:
            found.append(finding)
    except CHECK_ERRORS as trouble:
        found.append(Finding(topic, False, describe_error(trouble)))
    return found


def describe_error(error: Exception) -> str:
    """What a check could not do, and what to do about it."""
    if isinstance(error, PermissionError) and error.filename:
        remedy = "`ls -ld` shows whose it is; give yourself the right to read it"
        return f"{error.filename} may not be looked at: {remedy}"
    if isinstance(error, OSError) and error.filename:
        remedy = "nothing more was looked at there; mend or remove it"
        return f"{error.filename} cannot be looked at ({error.strerror}): {remedy}"
    if isinstance(error, ImportError):
        remedy = "`pip install -r requirements.lock` in an environment of its own"
        return f"a package cannot be loaded ({error}): {remedy}"
    first = str(error).strip().splitlines()[:1]
    told = first[0] if first else type(error).__name__
    return f"this could not be looked at ({told}): mend that, then call the doctor again"
