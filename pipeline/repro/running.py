"""Has DVC bring stages up to date: one in the workspace, or all of an experiment beside it."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.process_group import started
from pipeline.repro.asking import DVC, quiet_environment
from pipeline.repro.words import Outcome, failure, head, lines

LAST_LINES = 15
"""What is told of the output of a command that failed, or that says why it did not."""

Say = Callable[[str], None]


class AtWork:
    """DVC while it goes through its stages, read line by line.

    Args:
        process: DVC, its two streams in one.
        stages: that it may begin; what a stage itself prints about others counts for nothing.
    """

    def __init__(self, process: subprocess.Popen[bytes], stages: Iterable[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self._lines = lines(process.stdout)
        self._to_come = set(stages)
        self._begun: tuple[str, Outcome] | None = None
        self._first_line = ""
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def next_stage(self, say: Say) -> str | None:
        """Read on until DVC begins a stage, and name it; None: it has ended, and all is well.

        Raises:
            StageFailed: if DVC ends with an error that is no stage's.
            WorkspaceBusy: if another DVC process holds something that it needs.
        """
        if self._begun is None:
            self._read_on("the experiment", say)
        return self._begun[0] if self._begun else None

    def finish(self, stage: str, say: Say) -> Outcome:
        """Read what DVC says about a stage, until it begins the next one or ends.

        Raises:
            StageFailed: with the last lines of the stage.
            WorkspaceBusy: if another DVC process holds something that the stage needs.
        """
        if self._begun is None:
            self._read_on(stage, say)
        begun, self._begun = self._begun, None
        if begun is None:
            return Outcome.FRESH
        self._take(self._first_line, say)
        self._read_on(stage, say)
        return begun[1]

    def _read_on(self, stage: str, say: Say) -> None:
        """Give all lines to `say` until one begins the next stage, which is kept for it."""
        for line in self._lines:
            begun = head(line)
            if begun is not None and begun[0] in self._to_come:
                self._to_come.remove(begun[0])
                self._begun, self._first_line = begun, line
                self._last.clear()
                return
            self._take(line, say)
        if self._process.wait():
            raise failure(stage, list(self._last))

    def _take(self, line: str, say: Say) -> None:
        self._last.append(line)
        say(line)


def run_stage(stage: str, *, say: Say, force: bool, environment: Mapping[str, str]) -> Outcome:
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
    command = ["repro", "--single-item", *(["--force"] if force else []), stage]
    with _at_work(command, [stage], environment) as dvc:
        return dvc.finish(stage, say)


@contextmanager
def experiment(
    name: str, settings: Sequence[str], stages: Sequence[str], environment: Mapping[str, str]
) -> Iterator[AtWork]:
    """Have DVC run an experiment in a folder of its own, from what lies in the workspace.

    Params.yaml and results in the workspace stay as they are. `dvc exp show` shows what comes out,
    `dvc exp apply NAME` takes it over. Leaving the block ends the experiment and its children.

    Args:
        name: of the experiment.
        settings: parameters that differ, `train.steps=20`.
        stages: to bring up to date there: all that are needed, in the graph's order.
        environment: variables for the stages, on top of those of this process.
    """
    changes = [word for setting in settings for word in ("--set-param", setting)]
    command = ["exp", "run", "--temp", "--name", name, *changes, *stages]
    with _at_work(command, stages, environment) as dvc:
        yield dvc


@contextmanager
def _at_work(
    arguments: Sequence[str], stages: Iterable[str], environment: Mapping[str, str]
) -> Iterator[AtWork]:
    surroundings = quiet_environment() | dict(os.environ) | dict(environment)
    # dvc.yaml says `python`, which must be the one that runs this.
    path = [str(Path(sys.executable).parent), surroundings.get("PATH", os.defpath)]
    surroundings |= {"PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
    surroundings.pop("FORCE_COLOR", None)  # it makes rich draw its live bars into a log
    with started([*DVC, *arguments], surroundings) as process:
        yield AtWork(process, stages)
