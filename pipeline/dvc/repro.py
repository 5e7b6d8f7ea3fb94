"""Runs stages with DVC: one in the workspace, or all stages of an experiment beside it."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.dvc.messages import StageOutcome, parse_stage_start, read_lines, to_error
from pipeline.dvc.queries import DVC_COMMAND, default_environment
from pipeline.process_group import start_process_group

NUM_LAST_LINES = 15
"""Lines of a command's output that an error message or a gate decision quotes."""

LineCallback = Callable[[str], None]


class DvcProcess:
    """A running DVC process, whose output is read line by line and split by stage.

    Args:
        process: DVC, with stderr redirected to stdout.
        stages: the stages that DVC may start. Lines that announce other stages are ignored, since
            a stage may print them itself.
    """

    def __init__(self, process: subprocess.Popen[bytes], stages: Iterable[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self._lines = read_lines(process.stdout)
        self._pending_stages = set(stages)
        self._current_stage: tuple[str, StageOutcome] | None = None
        self._first_line = ""
        self._last_lines: deque[str] = deque(maxlen=NUM_LAST_LINES)

    def next_stage(self, on_line: LineCallback) -> str | None:
        """Read until DVC starts a stage and return its name; None if DVC has ended without error.

        Args:
            on_line: called with each line read.

        Raises:
            StageError: if DVC fails outside of a stage.
            WorkspaceBusyError: if another DVC process has locked something that it needs.
        """
        if self._current_stage is None:
            self._read_until_next_stage("the experiment", on_line)
        return self._current_stage[0] if self._current_stage else None

    def finish_stage(self, stage: str, on_line: LineCallback) -> StageOutcome:
        """Read the output of a stage, until DVC starts the next one or ends.

        Args:
            stage: name of the stage, for the error message.
            on_line: called with each line read.

        Raises:
            StageError: if the stage fails; with its last lines.
            WorkspaceBusyError: if another DVC process has locked something that the stage needs.
        """
        if self._current_stage is None:
            self._read_until_next_stage(stage, on_line)
        current, self._current_stage = self._current_stage, None
        if current is None:
            return StageOutcome.UP_TO_DATE
        self._emit(self._first_line, on_line)
        self._read_until_next_stage(stage, on_line)
        return current[1]

    def _read_until_next_stage(self, stage: str, on_line: LineCallback) -> None:
        """Emit lines until one announces the next stage; that line is kept for the next stage."""
        for line in self._lines:
            start = parse_stage_start(line)
            if start is not None and start[0] in self._pending_stages:
                self._pending_stages.remove(start[0])
                self._current_stage, self._first_line = start, line
                self._last_lines.clear()
                return
            self._emit(line, on_line)
        if self._process.wait():
            raise to_error(stage, list(self._last_lines))

    def _emit(self, line: str, on_line: LineCallback) -> None:
        self._last_lines.append(line)
        on_line(line)


def run_stage(
    stage: str, *, on_line: LineCallback, force: bool, environment: Mapping[str, str]
) -> StageOutcome:
    """Bring one stage up to date without its upstream stages.

    If this call ends early, even by SIGKILL of this process, the stage and its children end too.

    Args:
        stage: name of the stage in the graph.
        on_line: called with each line of output of DVC and of the stage.
        force: whether to run the stage even if it is up to date.
        environment: variables for the stage, added to those of this process.

    Raises:
        StageError: if the stage fails; with its last lines.
        WorkspaceBusyError: if another DVC process has locked something that the stage needs.
    """
    command = ["repro", "--single-item", *(["--force"] if force else []), stage]
    with _start_dvc(command, [stage], environment) as dvc:
        return dvc.finish_stage(stage, on_line)


@contextmanager
def start_experiment(
    name: str, overrides: Sequence[str], stages: Sequence[str], environment: Mapping[str, str]
) -> Iterator[DvcProcess]:
    """Start a DVC experiment on a copy of the workspace, in a temporary folder.

    Parameters and results in the workspace do not change. `dvc exp show` lists the experiment's
    results, `dvc exp apply NAME` copies them into the workspace. Leaving the block ends the
    experiment and its children.

    Args:
        name: name of the experiment.
        overrides: changed parameters, such as `train.steps=20`.
        stages: stages to bring up to date, with all upstream stages, in the graph's order.
        environment: variables for the stages, added to those of this process.
    """
    options = [word for setting in overrides for word in ("--set-param", setting)]
    command = ["exp", "run", "--temp", "--name", name, *options, *stages]
    with _start_dvc(command, stages, environment) as dvc:
        yield dvc


@contextmanager
def _start_dvc(
    arguments: Sequence[str], stages: Iterable[str], environment: Mapping[str, str]
) -> Iterator[DvcProcess]:
    merged = default_environment() | dict(os.environ) | dict(environment)
    # dvc.yaml calls `python`, which must be this interpreter.
    path = [str(Path(sys.executable).parent), merged.get("PATH", os.defpath)]
    merged |= {"PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
    merged.pop("FORCE_COLOR", None)  # it makes rich draw live progress bars into a log
    with start_process_group([*DVC_COMMAND, *arguments], merged) as process:
        yield DvcProcess(process, stages)
