"""Looks at the machine, the parameters and the data, and says what is wrong and what to do."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import requests
import torch

from pipeline import config, repro, store
from pipeline.root import project_root
from pipeline.stages.download import source_changes

_GIBIBYTE = 2**30
_LEAST_FREE = 5 * _GIBIBYTE
_PATIENCE = 3.0  # seconds, for a server to answer


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        is_well: whether it is as it should be.
        sentence: what was found and, where it is not well, what to do.
    """

    is_well: bool
    sentence: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.is_well else 'MEND'}  {self.sentence}"


def examine(params: Path) -> list[Finding]:
    """Look at everything; nothing is changed.

    Args:
        params: params.yaml.
    """
    return [
        _environment(),
        _device(),
        _disk(),
        _git(),
        *_parameters(params),
        *_data(),
        _service("MLflow", "MLFLOW_TRACKING_URI", "runs go to mlflow.db in this folder"),
        _service("Prefect", "PREFECT_API_URL", "retrain starts a temporary server for each run"),
    ]


def _environment() -> Finding:
    tools = ", ".join(f"{name} {version(name)}" for name in ("torch", "dvc", "mlflow", "prefect"))
    return Finding(True, f"Python {platform.python_version()}, {tools}")


def _device() -> Finding:
    if not torch.cuda.is_available():
        threads = torch.get_num_threads()
        return Finding(True, f"no CUDA device: training runs on the CPU with {threads} threads")
    gpu = torch.cuda.get_device_properties(0)
    return Finding(True, f"{gpu.name} with {gpu.total_memory / _GIBIBYTE:.0f} GiB")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    sentence = f"{free / _GIBIBYTE:.0f} GiB free on this disk"
    if free < _LEAST_FREE:
        sentence += f": under {_LEAST_FREE / _GIBIBYTE:.0f}, make room"
    return Finding(free >= _LEAST_FREE, sentence)


def _git() -> Finding:
    if os.environ.get("GIT_AUTHOR_NAME"):
        return Finding(True, "Git knows who you are")
    asked = ["git", "config", "user.email"]
    is_known = subprocess.run(asked, capture_output=True, check=False).returncode == 0
    remedy = ": `dvc exp` needs it; `git config user.name` and `user.email` set it"
    return Finding(is_known, f"Git knows who you are{'' if is_known else ' not' + remedy}")


def _parameters(params: Path) -> Iterator[Finding]:
    try:
        settings = config.load(params)
    except config.ParameterError as mistakes:
        for mistake in str(mistakes).splitlines():
            yield Finding(False, mistake)
        return
    yield Finding(True, f"{params} has no mistake")
    if settings.download.source == "folder":
        folder = project_root() / str(settings.download.folder)
        is_there = folder.is_dir() and any(folder.iterdir())
        state = "is there" if is_there else "is missing or empty: mount it, or name another"
        yield Finding(is_there, f"download.folder: {folder} {state}")


def _data() -> Iterator[Finding]:
    try:
        source = repro.output("source.json")
    except ValueError as mistake:
        yield Finding(False, str(mistake))
        return
    if source is None or not source.exists():
        yield Finding(True, "no raw data yet: `dvc repro` brings it")
        return
    changes = source_changes(source)
    for change in changes:
        yield Finding(False, f"{change}; take it in with `dvc repro --force download` or `retrain`")
    if not changes:
        yield Finding(True, "the raw data is what its source holds")


def _service(name: str, variable: str, otherwise: str) -> Finding:
    address = os.environ.get(variable)
    if not address:
        return Finding(True, f"{name}: {variable} is not set, {otherwise}")
    shown = store.without_secrets(address)
    if not address.startswith("http"):
        return Finding(True, f"{name}: {shown}")
    try:
        requests.get(address, timeout=_PATIENCE)
    except requests.RequestException:
        return Finding(False, f"{name}: {shown} does not answer: start it, or unset {variable}")
    return Finding(True, f"{name}: {shown} answers")
