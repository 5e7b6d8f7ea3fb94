"""What DVC prints, and what it means: which stage is on, how it ended, who is in the way."""

import os
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import IO

# DVC's bookkeeping and advice, the same after every stage, and how it tidies up after a kill.
_IGNORED_LINES = re.compile(
    r"(Generating|Updating) lock file |Data and pipelines are up to date\.|Use `dvc push` "
    r"|To track the changes with git, run:|\s+git add |To enable auto staging, run:"
    r"|\s+dvc config core\.autostage |WARNING: Process '.*' had been killed\. Auto removed it "
    r"|To apply the results of an experiment |\s+dvc exp apply <exp>"
    # An arm that an experiment adds has no outputs yet: nothing is lost.
    r"|WARNING: No file hash info found for '\S*/\.dvc/tmp/exps/"
)
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(\x07|\x1b\\)")
_BUSY = re.compile(r"'(?P<path>[^']+)' is busy, it is being blocked by:")
_BLOCKING_PROCESS = re.compile(r"\s*\(PID (?P<pid>\d+)\): (?P<command>.+)")


class StageOutcome(StrEnum):
    """What bringing a stage up to date came to."""

    RAN = "ran"
    RESTORED = "restored"
    """Its outputs were in DVC's cache from an earlier run with the same inputs."""
    UP_TO_DATE = "fresh"


_STAGE_STARTS = {
    StageOutcome.RAN: re.compile(r"Running stage '([^']+)':"),
    StageOutcome.RESTORED: re.compile(r"Stage '([^']+)' is cached - skipping run"),
    StageOutcome.UP_TO_DATE: re.compile(r".*'([^']+)' didn't change, skipping$"),
}
"""The line with which DVC begins on a stage, by what becomes of the stage."""


class StageError(ValueError):
    """A stage failed; the message ends with the last lines of its output."""


class WorkspaceBusyError(ValueError):
    """Another DVC process is at work in this folder; the message names it."""


def parse_stage_start(line: str) -> tuple[str, StageOutcome] | None:
    """The stage that a line of DVC's begins, and what becomes of it unless it fails."""
    for outcome, pattern in _STAGE_STARTS.items():
        if found := pattern.match(line):
            return found[1], outcome
    return None


def to_error(stage: str, lines: Sequence[str]) -> ValueError:
    """Make the error that tells a person what the last lines of a failed stage mean."""
    errors = "\n".join(lines)
    if busy := _BUSY.search(errors):
        holder = _BLOCKING_PROCESS.search(errors, busy.end())
        by = (
            f"process {holder['pid']} ({_shorten_command(holder['command'])})"
            if holder
            else "another one"
        )
        path = os.path.relpath(busy["path"])
        return WorkspaceBusyError(f"DVC is at work here: {by} holds {path}; wait for it or end it")
    if "Unable to acquire lock" in errors:
        return WorkspaceBusyError("another DVC process is at work here; wait for it or end it")
    # DVC says the whole command before and after; only the exit status in it is news.
    closing = re.search(r"ERROR: failed to reproduce .*failed to run: .*exited with (\S+)$", errors)
    known = (f"Running stage '{stage}'", "> ", *([closing[0]] if closing else []))
    said = [line.removeprefix("ERROR: ") for line in lines if not line.startswith(known)]
    status = f"exit status {closing[1]}" if closing else "DVC reports an error"
    return StageError(f"{stage}: {status}; last lines:\n" + "\n".join(said or ["(none)"]))


def _shorten_command(command: str) -> str:
    return re.sub(r"^\S*/dvc(/__main__\.py)?(?= |$)", "dvc", command)


def read_lines(stream: IO[bytes]) -> Iterator[str]:
    """Give the lines as a terminal would show them: of a progress bar only what it ended as."""
    for raw in stream:
        text = _ESCAPES.sub("", raw.decode(errors="replace")).rstrip()
        line = text.rpartition("\r")[2]
        if line.strip() and not _IGNORED_LINES.match(line):
            yield line
