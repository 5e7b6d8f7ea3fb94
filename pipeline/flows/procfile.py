"""Runs the processes of a Procfile; if one ends, or this process ends, all of them end."""

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
_SIGNAL_EXIT_STATUSES = {128 + signal.SIGINT, 128 + signal.SIGTERM}
_STARTED = re.compile(r"(?P<name>\S+) started \(pid=(?P<pid>\d+)\)")
_STOPPED = re.compile(r"(?P<name>\S+) stopped \(rc=(?P<status>-?\d+)\)")


class _ProcessPrinter(Printer):  # type: ignore[misc]  # honcho has no types
    """Prints the output of the processes, and records which have started and which ended first.

    Args:
        names: names of the processes.
        on_all_started: called once, in a new thread, when all processes have started.
    """

    def __init__(self, names: list[str], on_all_started: Callable[[], None]) -> None:
        super().__init__(sys.stdout)
        self.last_lines: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_NUM_LAST_LINES))
        self.first_exit: tuple[str, str] | None = None
        self.guards = ExitStack()
        self._not_started = set(names)
        self._on_all_started = on_all_started

    def write(self, message: Message) -> None:
        """Print a line of a process or of the manager."""
        super().write(message)
        data = message.data
        text = data if isinstance(data, str) else data.decode(errors="replace")
        if message.name != honcho.manager.SYSTEM_PRINTER_NAME:
            if text.strip():
                self.last_lines[message.name].append(text.rstrip())
        elif started := _STARTED.match(text):
            # The manager does not know the children of a process, which may outlive it.
            self.guards.callback(terminate_group, int(started["pid"]))
            self.guards.enter_context(start_watchdog(int(started["pid"])))
            self._not_started.discard(started["name"])
            # Not earlier: the manager forks the processes, and a fork copies no threads.
            if not self._not_started:
                threading.Thread(target=self._on_all_started, daemon=True).start()
        elif (stopped := _STOPPED.match(text)) and self.first_exit is None:
            self.first_exit = (stopped["name"], stopped["status"])


def run_procfile(
    procfile: Path, environment: Mapping[str, str], on_all_started: Callable[[], None]
) -> None:
    """Run the processes of a Procfile until ctrl-C, SIGTERM, SIGHUP, or the end of one of them.

    Args:
        procfile: file with a line `name: command` per process.
        environment: environment variables of all processes.
        on_all_started: called once, in a new thread, when all processes have started.

    Raises:
        ValueError: if a process ended by itself; with its last lines.
    """
    commands = parse_procfile(procfile.read_text()).processes
    printer = _ProcessPrinter(list(commands), on_all_started)
    manager = honcho.manager.Manager(printer)
    for name, command in commands.items():
        manager.add_process(name, command, env=dict(environment))
    with _graceful_shutdown(), printer.guards:
        manager.loop()
    if manager.returncode in _SIGNAL_EXIT_STATUSES or printer.first_exit is None:
        return
    name, status = printer.first_exit
    lines = "\n".join(f"  {line}" for line in printer.last_lines[name])
    raise ValueError(
        f"{name} exited with status {status}, so all other services were stopped; its last lines:\n"
        f"{lines}"
    )


@contextmanager
def _graceful_shutdown() -> Iterator[None]:
    """Extend the manager's grace period, and treat SIGHUP of a closed terminal as SIGTERM."""
    before = signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    kill_wait, honcho.manager.KILL_WAIT = honcho.manager.KILL_WAIT, GRACE_SECONDS + 5
    try:
        yield
    finally:
        honcho.manager.KILL_WAIT = kill_wait
        signal.signal(signal.SIGHUP, before)
