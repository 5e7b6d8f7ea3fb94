"""Checks the machine: package versions, device, disk space, Git."""

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
"""Bytes to keep free beside the stages' outputs, for DVC, MLflow and the system."""

_DRIVER = Path("/proc/driver/nvidia/version")


def check_environment() -> Iterator[Finding]:
    """Compare the versions of Python and of the packages with pyproject.toml."""
    versions = [f"Python {platform.python_version()}"]
    problems = []
    try:
        python = SpecifierSet(metadata(PROJECT)["Requires-Python"] or "")
        requirements = [Requirement(line) for line in requires(PROJECT) or []]
    except PackageNotFoundError:
        yield Finding("environment", False, f"{PROJECT} is not installed: `pip install -e .`")
        return
    if not python.contains(platform.python_version(), prereleases=True):
        problems.append(f"Python {platform.python_version()} (requires {python})")
    for requirement in requirements:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            problems.append(f"{requirement.name} (missing)")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            problems.append(f"{requirement.name} {installed} (requires {requirement.specifier})")
        if requirement.name in ("torch", "dvc", "mlflow", "prefect"):
            versions.append(f"{requirement.name} {installed}")
    yield Finding("environment", True, ", ".join(versions))
    if problems:
        remedy = "`pip install -r requirements.lock` in a new virtual environment"
        yield Finding("environment", False, f"untested versions: {'; '.join(problems)}: {remedy}")


def check_device() -> Finding:
    """Report the device that training would use."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info(0)
        name = torch.cuda.get_device_name(0)
        num_others = torch.cuda.device_count() - 1
        others = f", and {num_others} more" if num_others else ""
        return Finding(
            "device", True, f"{name}, {format_bytes(free)} of {format_bytes(total)} free{others}"
        )
    threads = format_count(torch.get_num_threads(), "thread")
    message = f"no CUDA device: training runs on the CPU with {threads}"
    if not _DRIVER.exists():
        return Finding("device", True, message)
    reason = (
        "this PyTorch is a CPU-only build: install the CUDA build (requirements.lock)"
        if torch.version.cuda is None
        else "the driver is too old for this PyTorch, or CUDA_VISIBLE_DEVICES hides the device"
    )
    return Finding("device", False, f"{message}, although an NVIDIA driver is loaded; {reason}")


def check_disk(folder: Path, required_bytes: Mapping[str, int]) -> Finding:
    """Compare the free disk space with the bytes that the stages will write.

    Args:
        folder: a folder on the disk.
        required_bytes: bytes by purpose.
    """
    free = shutil.disk_usage(folder).free
    required = sum(required_bytes.values())
    parts = ", ".join(
        f"{name} {format_bytes(size)}" for name, size in required_bytes.items() if size
    )
    message = (
        f"{format_bytes(free)} free; a full run writes about {format_bytes(required)} ({parts})"
    )
    missing = required + SPARE_BYTES - free
    if missing > 0:
        spare = format_bytes(SPARE_BYTES)
        message += f": free {format_bytes(missing)} more, which includes a reserve of {spare}"
    return Finding("disk", missing <= 0, message)


def check_git() -> Finding:
    """Check that Git has the author's name and email, which commits require."""
    configured = Finding("git", True, "author configured")
    if os.environ.get("GIT_AUTHOR_NAME"):
        return configured
    command = ["git", "config", "user.email"]
    try:
        is_configured = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return Finding("git", False, "Git is not installed: install it, DVC needs a Git repository")
    if is_configured:
        return configured
    remedy = "set them with `git config user.name` and `git config user.email`"
    return Finding("git", False, f"no author configured, which `dvc exp` needs: {remedy}")
