"""pipeline.parallel.cpu_count: CPU quotas of control groups."""

import os
from pathlib import Path

import pytest

from pipeline.parallel import cpu_count

NUM_CPUS = 64


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(NUM_CPUS)), raising=False)


def make_root(folder: Path, **files: str) -> Path:
    """Write files below a folder that stands for `/`; double underscores stand for slashes."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("cpu_max", "cpu.max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", NUM_CPUS)],
)
def test_the_quota_of_a_container(tmp_path: Path, limit: str, expected: int) -> None:
    """Version 2: a quota is rounded up to whole CPUs; "max" is no limit."""
    container = make_root(tmp_path, proc__self__cgroup="0::/", sys__fs__cgroup__cpu_max=limit)
    assert expected == cpu_count(container)


def test_the_lowest_quota_of_the_enclosing_groups(tmp_path: Path) -> None:
    """A group without a limit of its own is bound by the one that it lies in."""
    machine = make_root(
        tmp_path,
        proc__self__cgroup="0::/slice/service",
        sys__fs__cgroup__slice__service__cpu_max="max 100000",
        sys__fs__cgroup__slice__cpu_max="300000 100000",
    )
    assert 3 == cpu_count(machine)


@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("-1", NUM_CPUS)])
def test_the_quota_of_version_1(tmp_path: Path, quota: str, expected: int) -> None:
    """Quota and period are separate files, and the path is the host's."""
    container = make_root(
        tmp_path, proc__self__cgroup="3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n1:pids:/"
    )
    folder = container / "sys/fs/cgroup/cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert expected == cpu_count(container)


def test_no_quota_without_control_groups(tmp_path: Path) -> None:
    """Without `proc` and `sys`, as on macOS, all CPUs of the machine count."""
    assert NUM_CPUS == cpu_count(tmp_path)
