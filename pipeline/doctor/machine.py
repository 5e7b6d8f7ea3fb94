"""What the doctor finds out about the machine: versions, device, room on the disk, Git."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.doctor.finding import Finding
from pipeline.formatting import format_bytes, format_count

PROJECT = "segformer-cityscapes"
SPARE_BYTES = 10**9
"""Bytes that should stay free beside what the stages write, for DVC, MLflow and the system."""

_DRIVER = Path("/proc/driver/nvidia/version")


def check_environment() -> Iterator[Finding]:
    """Look whether Python and the packages are those that pyproject.toml asks for."""
    told = [f"Python {platform.python_version()}"]
    wrong = []
    try:
        python = SpecifierSet(metadata(PROJECT)["Requires-Python"] or "")
        needed = [Requirement(line) for line in requires(PROJECT) or []]
    except PackageNotFoundError:
        yield Finding("environment", False, f"{PROJECT} is not installed: `pip install -e .`")
        return
    if not python.contains(platform.python_version(), prereleases=True):
        wrong.append(f"Python {platform.python_version()} ({python} is needed)")
    for requirement in needed:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} (missing)")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} ({requirement.specifier} is needed)")
        if requirement.name in ("torch", "dvc", "mlflow", "prefect"):
            told.append(f"{requirement.name} {found}")
    yield Finding("environment", True, ", ".join(told))
    if wrong:
        remedy = "`pip install -r requirements.lock` in an environment of its own"
        yield Finding("environment", False, f"not what was tried: {'; '.join(wrong)}: {remedy}")


def check_device() -> Finding:
    """Look what training would run on."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info(0)
        name = torch.cuda.get_device_name(0)
        others = torch.cuda.device_count() - 1
        beside = f", and {others} more" if others else ""
        return Finding(
            "device", True, f"{name}, {format_bytes(free)} of {format_bytes(total)} free{beside}"
        )
    threads = format_count(torch.get_num_threads(), "thread")
    sentence = f"no CUDA device: training runs on the CPU with {threads}"
    if not _DRIVER.exists():
        return Finding("device", True, sentence)
    why = (
        "this PyTorch is a build without CUDA: install the other one (requirements.lock)"
        if torch.version.cuda is None
        else "its driver is too old for this PyTorch, or CUDA_VISIBLE_DEVICES hides the device"
    )
    return Finding("device", False, f"{sentence}, though there is an NVIDIA driver; {why}")


def check_disk(folder: Path, required_bytes: Mapping[str, int]) -> Finding:
    """Compare the room on the disk with what the stages are going to write.

    Args:
        folder: on the disk.
        required_bytes: bytes by what they are for.
    """
    free = shutil.disk_usage(folder).free
    needed = sum(required_bytes.values())
    parts = ", ".join(
        f"{name} {format_bytes(size)}" for name, size in required_bytes.items() if size
    )
    sentence = (
        f"{format_bytes(free)} free; a whole run writes about {format_bytes(needed)} ({parts})"
    )
    missing = needed + SPARE_BYTES - free
    if missing > 0:
        sentence += f": make room for {format_bytes(missing)}, {format_bytes(SPARE_BYTES)} to spare included"
    return Finding("disk", missing <= 0, sentence)


def check_git() -> Finding:
    """Look whether Git can commit."""
    if os.environ.get("GIT_AUTHOR_NAME"):
        return Finding("git", True, "Git knows who you are")
    asked = ["git", "config", "user.email"]
    try:
        is_known = subprocess.run(asked, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return Finding("git", False, "Git is missing: DVC works in a Git repository, install it")
    if is_known:
        return Finding("git", True, "Git knows who you are")
    remedy = "`dvc exp` needs it; `git config user.name` and `user.email` set it"
    return Finding("git", False, f"Git does not know who you are: {remedy}")
