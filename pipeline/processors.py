"""How many processors this process may use: the machine's, or what its container is given."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cpu_count(root: Path = Path("/")) -> int:
    """As many as this process may run on, but no more than its control groups pay for.

    Args:
        root: where `proc` and `sys` are.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas(root))]))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Processors' worth of time that each control group around this process is given at most."""
    for folder in _cgroup_folders(root):
        # Version 2 has one file, version 1 two; "max" and -1 are no limit.
        text = _read_text(folder / "cpu.max") or " ".join(
            _read_text(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period")
        )
        match text.split():
            case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
                yield int(quota) / int(period)


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """Folders of the control groups that decide on processors, the process's own and those above.

    `/proc/self/cgroup` has a line `number:controllers:path` for each hierarchy, with no controllers
    in version 2 (cgroups(7)).
    """
    for line in _read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        own = PurePosixPath(path.lstrip("/"))
        # In a container the path may be the host's; then it is not there, but the top is.
        yield from (top / group for group in (own, *own.parents))


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
