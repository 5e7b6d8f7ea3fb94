"""How numbers are written for people: per cent, points, and nan as n/a."""

import numpy as np

NOT_AVAILABLE = "n/a"


def format_percent(fraction: float, digits: int = 1) -> str:
    """`76.5` for 0.765; NOTHING for nan."""
    return NOT_AVAILABLE if np.isnan(fraction) else f"{100 * fraction:.{digits}f}"


def format_points(fraction: float, *, sign: bool = True, digits: int = 1) -> str:
    """`+1.2` for 0.012: a difference in percentage points."""
    rounded = round(100 * fraction, digits) + 0.0  # or else -0.0 would show its sign
    return f"{rounded:{'+' if sign else ''}.{digits}f}"


def format_count(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
