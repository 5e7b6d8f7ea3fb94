"""The problems of a whole set, told in one message: some in full, the rest counted."""

from collections.abc import Sequence

SHOWN = 20
"""So many problems are listed in full."""


def refuse(problems: Sequence[str], where: str, words: str) -> None:
    """Raise one error for all problems; do nothing if there is none.

    Args:
        problems: a line for each.
        where: the stage or file that has them.
        words: what follows their count in the first line: where they are, what to do.

    Raises:
        ValueError: `{where}: 3 problems {words}`, and a line per problem up to SHOWN of them.
    """
    if not problems:
        return
    more = len(problems) - SHOWN
    lines = [*problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    raise ValueError("\n".join([f"{where}: {count} {words}", *lines]))
