"""Errors for people: many problems in one, and a file's name in front of a message."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.formatting import format_count

MAX_LISTED = 20
"""Problems listed in a message."""


def raise_problems(problems: Sequence[str], location: str, summary: str) -> None:
    """Raise one error for all problems; do nothing if there is none.

    Args:
        problems: a line for each.
        location: the stage or file that has them.
        summary: follows their count in the first line: the consequence, and what to do.

    Raises:
        ValueError: `{location}: 3 problems {summary}`, and a line for each of the first MAX_LISTED.
    """
    if not problems:
        return
    num_more = len(problems) - MAX_LISTED
    lines = [*problems[:MAX_LISTED], *([f"and {num_more} more"] if num_more > 0 else [])]
    count = format_count(len(problems), "problem")
    raise ValueError("\n".join([f"{location}: {count} {summary}", *lines]))


def name_file(error: Exception, path: Path) -> str:
    """The message of an error, with the file in front if it does not name it."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"
