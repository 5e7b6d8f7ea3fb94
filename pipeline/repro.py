"""The only file that runs DVC: ask it for the graph and results, have it run one stage."""

import json
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from graphlib import TopologicalSorter
from pathlib import Path
from typing import IO, Any

from pipeline.process_group import started
from pipeline.section import nearest

Graph = dict[str, list[str]]
"""For each stage the stages it waits for; a stage stands after all of those."""

_DVC = [sys.executable, "-m", "dvc"]
_LAST_LINES = 15
# DVC's bookkeeping and advice, the same after every stage, and how it tidies up after a kill.
_CHATTER = re.compile(
    r"(Generating|Updating) lock file |Data and pipelines are up to date\.|Use `dvc push` "
    r"|To track the changes with git, run:|\s+git add |To enable auto staging, run:"
    r"|\s+dvc config core\.autostage |WARNING: Process '.*' had been killed\. Auto removed it "
)
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(\x07|\x1b\\)")
_BUSY = re.compile(r"'(?P<path>[^']+)' is busy, it is being blocked by:")
_HOLDER = re.compile(r"\s*\(PID (?P<pid>\d+)\): (?P<command>.+)")


class Outcome(StrEnum):
    """What bringing a stage up to date came to."""

    RAN = "ran"
    RESTORED = "restored"
    """Its outputs were in DVC's cache from an earlier run with the same inputs."""
    FRESH = "fresh"


class StageFailed(ValueError):  # noqa: N818  the name says it as a person would
    """A stage failed; the message ends with the last lines of its output."""


class WorkspaceBusy(ValueError):  # noqa: N818  likewise
    """Another DVC process is at work in this folder; the message names it."""


def quiet_environment() -> dict[str, str]:
    """Return what to set, where unset, before Prefect or DVC start: nothing reports home.

    The command line sets it before it imports `pipeline.flows`; stages inherit it.
    """
    return {
        "DO_NOT_TRACK": "true",  # Prefect and MLflow; MLflow takes no other spelling
        "DVC_NO_ANALYTICS": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Seconds; Prefect's own 20 are too few for its temporary server on a busy machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }


def graph() -> Graph:
    """Read the graph of stages from DVC, in an order in which they can run.

    Raises:
        ValueError: if dvc.yaml or params.yaml cannot be read, or there is no DVC project here.
    """
    upstream: Graph = {}
    for line in _ask("dag", "--dot").splitlines():
        match re.findall(r'"([^"]+)"', line):
            case [stage]:
                upstream[stage] = []
            case [before, after]:
                upstream[after].append(before)
    return {stage: upstream[stage] for stage in TopologicalSorter(upstream).static_order()}


def targets(graph: Graph, names: Iterable[str]) -> set[str]:
    """Return the stages meant by `names`; the name of a matrix (`train`) means all its items.

    Raises:
        ValueError: if a name is neither.
    """
    chosen: set[str] = set()
    for name in names:
        found = {stage for stage in graph if name in (stage, stage.partition("@")[0])}
        if not found:
            known = list(dict.fromkeys([s.partition("@")[0] for s in graph] + list(graph)))
            hint = nearest(name, known) or f"; choose from {', '.join(known)}"
            raise ValueError(f"{name} is not a stage of dvc.yaml{hint}")
        chosen |= found
    return chosen


def with_upstream(graph: Graph, stages: Iterable[str]) -> Graph:
    """Return the part of the graph that the stages need: themselves and everything before them."""
    needed = set(stages)
    for stage in reversed(graph):
        if stage in needed:
            needed.update(graph[stage])
    return {stage: before for stage, before in graph.items() if stage in needed}


def output(name: str) -> Path | None:
    """Return the path of the output file called `name`, say source.json; None if there is none."""
    return outputs(name)[name]


def outputs(*names: str) -> dict[str, Path | None]:
    """Return, by name, the paths of several output files; each question costs DVC a second.

    Raises:
        ValueError: if dvc.yaml or params.yaml cannot be read, or there is no DVC project here.
    """
    listed = dict.fromkeys(re.findall(r'"([^"]+)"', _ask("dag", "--dot", "--outs")))
    return {name: _place_of(name, map(Path, listed)) for name in names}


def _place_of(name: str, listed: Iterable[Path]) -> Path | None:
    for path in listed:
        if path.name == name:
            return path
        if (path / name).is_file():  # DVC lists an output folder, not what is in it
            return path / name
    return None


def metrics() -> dict[str, dict[str, Any]]:
    """Return the metrics that can be read, by the path of their file."""
    shown = json.loads(_ask("metrics", "show", "--json"))
    files: dict[str, dict[str, Any]] = shown.get("", {}).get("data", {})
    return {path: file["data"] for path, file in files.items() if "data" in file}


def run_stage(
    stage: str, *, say: Callable[[str], None], force: bool, environment: Mapping[str, str]
) -> Outcome:
    """Bring one stage up to date, its upstream stages taken as they are.

    Whatever ends this call early, even SIGKILL of this process, ends the stage and its children.

    Args:
        stage: as `graph` names it.
        say: is given each line of DVC and the stage as it comes.
        force: run the stage although nothing changed.
        environment: variables for the stage, on top of those of this process.

    Raises:
        StageFailed: with the last lines of the stage.
        WorkspaceBusy: if another DVC process holds something that the stage needs.
    """
    command = [*_DVC, "repro", "--single-item", *(["--force"] if force else []), stage]
    outcome = None
    last: deque[str] = deque(maxlen=_LAST_LINES)
    surroundings = quiet_environment() | dict(os.environ) | dict(environment)
    # dvc.yaml says `python`, which must be the one that runs this.
    path = [str(Path(sys.executable).parent), surroundings.get("PATH", os.defpath)]
    surroundings |= {"PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
    surroundings.pop("FORCE_COLOR", None)  # it makes rich draw its live bars into a log
    with started(command, surroundings) as process:
        assert process.stdout is not None
        for line in _lines(process.stdout):
            outcome = outcome or _outcome(stage, line)
            last.append(line)
            say(line)
        process.wait()
    if process.returncode:
        raise _failure(stage, list(last))
    return outcome or Outcome.FRESH


def _outcome(stage: str, line: str) -> Outcome | None:
    if line.startswith(f"Running stage '{stage}'"):
        return Outcome.RAN
    if line.startswith(f"Stage '{stage}' is cached - skipping run"):
        return Outcome.RESTORED
    if line.endswith(f"'{stage}' didn't change, skipping"):
        return Outcome.FRESH
    return None


def _failure(stage: str, lines: Sequence[str]) -> ValueError:
    """Make the error that tells a person what the last lines of a failed stage mean."""
    errors = "\n".join(lines)
    if busy := _BUSY.search(errors):
        holder = _HOLDER.search(errors, busy.end())
        by = f"process {holder['pid']} ({_short(holder['command'])})" if holder else "another one"
        path = os.path.relpath(busy["path"])
        return WorkspaceBusy(f"DVC is at work here: {by} holds {path}; wait for it or end it")
    if "Unable to acquire lock" in errors:
        return WorkspaceBusy("another DVC process is at work here; wait for it or end it")
    # DVC says the whole command before and after; only the exit status in it is news.
    closing = re.search(r"ERROR: failed to reproduce .*failed to run: .*exited with (\S+)$", errors)
    known = (f"Running stage '{stage}'", "> ", *([closing[0]] if closing else []))
    said = [line.removeprefix("ERROR: ") for line in lines if not line.startswith(known)]
    status = f"exit status {closing[1]}" if closing else "DVC reports an error"
    return StageFailed(f"{stage}: {status}; last lines:\n" + "\n".join(said or ["(none)"]))


def _short(command: str) -> str:
    return re.sub(r"^\S*/dvc(/__main__\.py)?(?= |$)", "dvc", command)


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Give the lines as a terminal would show them: of a progress bar only what it ended as."""
    for raw in stream:
        text = _ESCAPES.sub("", raw.decode(errors="replace")).rstrip()
        line = text.rpartition("\r")[2]
        if line.strip() and not _CHATTER.match(line):
            yield line


def _ask(*arguments: str) -> str:
    """Run a DVC command that only looks, and return what it printed."""
    environment = quiet_environment() | dict(os.environ)
    done = subprocess.run([*_DVC, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        errors = done.stderr.strip().removeprefix("ERROR: ")
        raise ValueError(f"dvc {arguments[0]}: {errors}")
    return done.stdout
