"""Has DVC bring stages up to date: one in the workspace, or all of an experiment beside it."""

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
"""What is told of the output of a command that failed, or that says why it did not."""

LineCallback = Callable[[str], None]


class DvcProcess:
    """DVC while it goes through its stages, read line by line.

    Args:
        process: DVC, its two streams in one.
        stages: that it may begin; what a stage itself prints about others counts for nothing.
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
        """Read on until DVC begins a stage, and name it; None: it has ended, and all is well.

        Raises:
            StageFailed: if DVC ends with an error that is no stage's.
            WorkspaceBusy: if another DVC process holds something that it needs.
        """
        if self._current_stage is None:
            self._read_until_next_stage("the experiment", on_line)
        return self._current_stage[0] if self._current_stage else None

    def finish_stage(self, stage: str, on_line: LineCallback) -> StageOutcome:
        """Read what DVC says about a stage, until it begins the next one or ends.

        Raises:
            StageFailed: with the last lines of the stage.
            WorkspaceBusy: if another DVC process holds something that the stage needs.
        """
        if self._current_stage is None:
            self._read_until_next_stage(stage, on_line)
        begun, self._current_stage = self._current_stage, None
        if begun is None:
            return StageOutcome.UP_TO_DATE
        self._emit(self._first_line, on_line)
        self._read_until_next_stage(stage, on_line)
        return begun[1]

    def _read_until_next_stage(self, stage: str, on_line: LineCallback) -> None:
        """Give all lines to `on_line` until one begins the next stage, which is kept for it."""
        for line in self._lines:
            begun = parse_stage_start(line)
            if begun is not None and begun[0] in self._pending_stages:
                self._pending_stages.remove(begun[0])
                self._current_stage, self._first_line = begun, line
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
    """Bring one stage up to date, its upstream stages taken as they are.

    Whatever ends this call early, even SIGKILL of this process, ends the stage and its children.

    Args:
        stage: as `graph` names it.
        on_line: is given each line of DVC and the stage as it comes.
        force: run the stage although nothing changed.
        environment: variables for the stage, on top of those of this process.

    Raises:
        StageFailed: with the last lines of the stage.
        WorkspaceBusy: if another DVC process holds something that the stage needs.
    """
    command = ["repro", "--single-item", *(["--force"] if force else []), stage]
    with _start_dvc(command, [stage], environment) as dvc:
        return dvc.finish_stage(stage, on_line)


@contextmanager
def start_experiment(
    name: str, overrides: Sequence[str], stages: Sequence[str], environment: Mapping[str, str]
) -> Iterator[DvcProcess]:
    """Have DVC run an experiment in a folder of its own, from what lies in the workspace.

    Params.yaml and results in the workspace stay as they are. `dvc exp show` shows what comes out,
    `dvc exp apply NAME` takes it over. Leaving the block ends the experiment and its children.

    Args:
        name: of the experiment.
        overrides: parameters that differ, `train.steps=20`.
        stages: to bring up to date there: all that are needed, in the graph's order.
        environment: variables for the stages, on top of those of this process.
    """
    changes = [word for setting in overrides for word in ("--set-param", setting)]
    command = ["exp", "run", "--temp", "--name", name, *changes, *stages]
    with _start_dvc(command, stages, environment) as dvc:
        yield dvc


@contextmanager
def _start_dvc(
    arguments: Sequence[str], stages: Iterable[str], environment: Mapping[str, str]
) -> Iterator[DvcProcess]:
    surroundings = default_environment() | dict(os.environ) | dict(environment)
    # dvc.yaml says `python`, which must be the one that runs this.
    path = [str(Path(sys.executable).parent), surroundings.get("PATH", os.defpath)]
    surroundings |= {"PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
    surroundings.pop("FORCE_COLOR", None)  # it makes rich draw its live bars into a log
    with start_process_group([*DVC_COMMAND, *arguments], surroundings) as process:
        yield DvcProcess(process, stages)
