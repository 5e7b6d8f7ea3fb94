"""Runs one of the doctor's checks: what breaks it becomes a line, and the other checks go on."""

from collections.abc import Callable, Iterable

from pipeline.finding import Finding

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
            found.append(finding)  # noqa: PERF402  what it finds before it breaks is kept
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
