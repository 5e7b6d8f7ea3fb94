"""The problems of a whole set, told in one message: some in full, the rest counted."""

from collections.abc import Sequence

MAX_LISTED = 20
"""So many problems are listed in full."""


def raise_problems(problems: Sequence[str], location: str, summary: str) -> None:
    """Raise one error for all problems; do nothing if there is none.

    Args:
        problems: a line for each.
        location: the stage or file that has them.
        summary: what follows their count in the first line: where they are, what to do.

    Raises:
        ValueError: `{where}: 3 problems {words}`, and a line per problem up to SHOWN of them.
    """
    if not problems:
        return
    more = len(problems) - MAX_LISTED
    lines = [*problems[:MAX_LISTED], *([f"and {more} more"] if more > 0 else [])]
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    raise ValueError("\n".join([f"{location}: {count} {summary}", *lines]))
