"""Numbers, counts and tables as text."""

from collections.abc import Iterable, Sequence

import numpy as np

NOT_AVAILABLE = "n/a"


def format_markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; the first column is aligned left, the others right."""
    lines = [headers, ["---", *["---:"] * (len(headers) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_percent(fraction: float, digits: int = 1) -> str:
    """`76.5` for 0.765; NOT_AVAILABLE for nan."""
    return NOT_AVAILABLE if np.isnan(fraction) else f"{100 * fraction:.{digits}f}"


def format_points(fraction: float, *, sign: bool = True, digits: int = 1) -> str:
    """`+1.2` for 0.012: a difference in percentage points."""
    rounded = round(100 * fraction, digits) + 0.0  # without + 0.0, -0.0 would show its sign
    return f"{rounded:{'+' if sign else ''}.{digits}f}"


def format_count(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def format_bytes(num_bytes: int) -> str:
    """`11.6 GB`, `252.6 MB`, `17 bytes`; decimal units."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.1f} {name}"
    return f"{num_bytes} bytes"
