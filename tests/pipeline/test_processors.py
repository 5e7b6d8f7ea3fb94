import os
from pathlib import Path

import pytest

from pipeline.parallel import cpu_count

MANY = 64


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four processors to run on, whatever this machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)), raising=False)


def root(folder: Path, **files: str) -> Path:
    """A `/` with these files; double underscores stand for slashes."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("cpu_max", "cpu.max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", MANY)],
)
def test_a_container_s_quota_counts(tmp_path: Path, limit: str, expected: int) -> None:
    """Version 2: time for two processors is two; for a part of one, one more; "max" is no limit."""
    container = root(tmp_path, proc__self__cgroup="0::/", sys__fs__cgroup__cpu_max=limit)
    assert expected == cpu_count(container)


def test_the_tightest_group_around_it_counts(tmp_path: Path) -> None:
    """A group may have no limit of its own and still lie in one that has."""
    machine = root(
        tmp_path,
        proc__self__cgroup="0::/slice/service",
        sys__fs__cgroup__slice__service__cpu_max="max 100000",
        sys__fs__cgroup__slice__cpu_max="300000 100000",
    )
    assert 3 == cpu_count(machine)


@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("-1", MANY)])
def test_version_1_counts_too(tmp_path: Path, quota: str, expected: int) -> None:
    """Quota and period stand in files of their own, and the path is the host's."""
    container = root(
        tmp_path, proc__self__cgroup="3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n1:pids:/"
    )
    folder = container / "sys/fs/cgroup/cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert expected == cpu_count(container)


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    """Where there is neither `proc` nor `sys`, as on a Mac, nothing is taken off."""
    assert MANY == cpu_count(tmp_path)
