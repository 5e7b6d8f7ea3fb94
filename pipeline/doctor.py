"""Looks at the machine, the parameters and the data, and says what is wrong and what to do."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from pipeline import config, repro, store
from pipeline.stages.download import source_changes

_GIBIBYTE = 2**30
_LEAST_FREE = 5 * _GIBIBYTE


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


def _parameters(params: Path) -> Iterator[Finding]:
    try:
        config.load(params)
    except config.ParameterError as mistakes:
        for mistake in str(mistakes).splitlines():
            yield Finding(False, mistake)
    else:
        yield Finding(True, f"{params} has no mistake")


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
    address = store.without_secrets(os.environ.get(variable, ""))
    return Finding(True, f"{name}: {address or f'{variable} is not set, {otherwise}'}")
