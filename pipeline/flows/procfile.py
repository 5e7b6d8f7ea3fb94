"""Runs the processes of a Procfile together: when one ends, all end, and none outlives this one."""

import re
import signal
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import honcho.manager
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from pipeline.process_group import GRACE_SECONDS, start_watchdog, terminate_group

_NUM_LAST_LINES = 6
_STARTED = re.compile(r"(?P<name>\S+) started \(pid=(?P<pid>\d+)\)")
_ENDED = re.compile(r"(?P<name>\S+) stopped \(rc=(?P<status>-?\d+)\)")


class _ProcessPrinter(Printer):  # type: ignore[misc]  # it has no types
    """Prints what the processes say, and notes which started and which ended first.

    Args:
        on_all_started: called once, in a thread of its own, when all have started.
    """

    def __init__(self, names: list[str], on_all_started: Callable[[], None]) -> None:
        super().__init__(sys.stdout)
        self.last_lines: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_NUM_LAST_LINES))
        self.first_exit: tuple[str, str] | None = None
        self.guards = ExitStack()
        self._not_started = set(names)
        self._on_all_started = on_all_started

    def write(self, message: Message) -> None:
        """Print a line of a process, or of the manager about one."""
        super().write(message)
        data = message.data
        text = data if isinstance(data, str) else data.decode(errors="replace")
        if message.name != honcho.manager.SYSTEM_PRINTER_NAME:
            if text.strip():
                self.last_lines[message.name].append(text.rstrip())
        elif started := _STARTED.match(text):
            # One that ends by itself leaves its children, whom the manager does not know.
            self.guards.callback(terminate_group, int(started["pid"]))
            self.guards.enter_context(start_watchdog(int(started["pid"])))
            self._not_started.discard(started["name"])
            # Not before: the processes are forked, and a fork takes no thread along.
            if not self._not_started:
                threading.Thread(target=self._on_all_started, daemon=True).start()
        elif (ended := _ENDED.match(text)) and self.first_exit is None:
            self.first_exit = (ended["name"], ended["status"])


def run_procfile(
    procfile: Path, environment: Mapping[str, str], on_all_started: Callable[[], None]
) -> None:
    """Run what a Procfile names until ctrl-C, SIGTERM, a lost terminal, or the end of one of them.

    Args:
        procfile: a line per process, `name: command`.
        environment: the environment of all of them.
        on_all_started: called once, in a thread of its own, when all have started.

    Raises:
        ValueError: if one ended by itself; with its last lines.
    """
    commands = parse_procfile(procfile.read_text()).processes
    watch = _ProcessPrinter(list(commands), on_all_started)
    manager = honcho.manager.Manager(watch)
    for name, command in commands.items():
        manager.add_process(name, command, env=dict(environment))
    with _graceful_shutdown(), watch.guards:
        manager.loop()
    if manager.returncode in _SIGNAL_EXIT_STATUSES or watch.first_exit is None:
        return
    name, status = watch.first_exit
    said = "\n".join(f"  {line}" for line in watch.last_lines[name])
    raise ValueError(
        f"{name} ended by itself (exit status {status}), so the others were ended too; it said:\n"
        f"{said}"
    )


_SIGNAL_EXIT_STATUSES = {128 + signal.SIGINT, 128 + signal.SIGTERM}


@contextmanager
def _graceful_shutdown() -> Iterator[None]:
    """Give the processes time to end in order, and let a terminal that is closed end them too."""
    before = signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    kill_wait, honcho.manager.KILL_WAIT = honcho.manager.KILL_WAIT, GRACE_SECONDS + 5
    try:
        yield
    finally:
        honcho.manager.KILL_WAIT = kill_wait
        signal.signal(signal.SIGHUP, before)
