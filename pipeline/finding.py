"""One thing that the doctor looked at, and how all of them read on a terminal and in a log."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
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
