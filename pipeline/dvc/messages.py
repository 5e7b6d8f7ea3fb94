"""Parses DVC's output: which stage begins, how it ends, and which process blocks it."""

import os
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import IO

# Advice that DVC repeats after every stage, and its cleanup after a killed process.
_IGNORED_LINES = re.compile(
    r"(Generating|Updating) lock file |Data and pipelines are up to date\.|Use `dvc push` "
    r"|To track the changes with git, run:|\s+git add |To enable auto staging, run:"
    r"|\s+dvc config core\.autostage |WARNING: Process '.*' had been killed\. Auto removed it "
    r"|To apply the results of an experiment |\s+dvc exp apply <exp>"
    # An arm that an experiment adds has no outputs yet; no data is lost.
    r"|WARNING: No file hash info found for '\S*/\.dvc/tmp/exps/"
)
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(\x07|\x1b\\)")
_BUSY = re.compile(r"'(?P<path>[^']+)' is busy, it is being blocked by:")
_BLOCKING_PROCESS = re.compile(r"\s*\(PID (?P<pid>\d+)\): (?P<command>.+)")
_STAGE_FAILURE = re.compile(
    r"ERROR: failed to reproduce .*failed to run: .*exited with (?P<status>-?\d+)$"
)


class StageOutcome(StrEnum):
    """How DVC brought a stage up to date."""

    RAN = "ran"
    RESTORED = "restored"
    """The outputs came from DVC's cache, from an earlier run with the same inputs."""
    UP_TO_DATE = "fresh"


_STAGE_STARTS = {
    StageOutcome.RAN: re.compile(r"Running stage '([^']+)':"),
    StageOutcome.RESTORED: re.compile(r"Stage '([^']+)' is cached - skipping run"),
    StageOutcome.UP_TO_DATE: re.compile(r".*'([^']+)' didn't change, skipping$"),
}
"""Pattern of the line that announces a stage, by the outcome that it announces."""


class StageError(ValueError):
    """A stage failed; the message ends with the last lines of its output.

    Args:
        message: the error message.
        exit_status: exit status of the stage's command; None if DVC reports none, because the
            command did not start.
    """

    def __init__(self, message: str, *, exit_status: int | None = None) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class WorkspaceBusyError(ValueError):
    """Another DVC process is running in this folder; the message names it."""


def parse_stage_start(line: str) -> tuple[str, StageOutcome] | None:
    """Return the stage that a line announces, and its outcome unless it fails.

    Returns:
        None if the line does not announce a stage.
    """
    for outcome, pattern in _STAGE_STARTS.items():
        if match := pattern.match(line):
            return match[1], outcome
    return None


def to_error(stage: str, lines: Sequence[str]) -> ValueError:
    """Return the error for a failed stage: StageError or WorkspaceBusyError.

    Args:
        stage: name of the stage.
        lines: the last lines of DVC's output.
    """
    errors = "\n".join(lines)
    if busy := _BUSY.search(errors):
        holder = _BLOCKING_PROCESS.search(errors, busy.end())
        owner = (
            f"process {holder['pid']} ({_shorten_command(holder['command'])})"
            if holder
            else "another process"
        )
        path = os.path.relpath(busy["path"])
        return WorkspaceBusyError(
            f"DVC is already running in this folder: {owner} has locked {path}; wait for it to"
            " finish, or end it"
        )
    if "Unable to acquire lock" in errors:
        return WorkspaceBusyError(
            "another DVC process is running in this folder; wait for it to finish, or end it"
        )
    # DVC prints the whole command before and after it; only the exit status is new.
    failure = _STAGE_FAILURE.search(errors)
    boilerplate = (f"Running stage '{stage}'", "> ", *([failure[0]] if failure else []))
    details = [line.removeprefix("ERROR: ") for line in lines if not line.startswith(boilerplate)]
    reason = f"exit status {failure['status']}" if failure else "DVC reports an error"
    return StageError(
        f"{stage}: {reason}; last lines:\n" + "\n".join(details or ["(none)"]),
        exit_status=int(failure["status"]) if failure else None,
    )


def read_lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a stream without escape sequences, empty lines and DVC's advice.

    Of a progress bar, which rewrites its line, only the last state is kept.
    """
    for raw in stream:
        text = _ESCAPES.sub("", raw.decode(errors="replace")).rstrip()
        line = text.rpartition("\r")[2]
        if line.strip() and not _IGNORED_LINES.match(line):
            yield line


def _shorten_command(command: str) -> str:
    return re.sub(r"^\S*/dvc(/__main__\.py)?(?= |$)", "dvc", command)
