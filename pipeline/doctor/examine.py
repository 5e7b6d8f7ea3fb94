"""Looks at the machine, the parameters and the data, and says what is wrong and what to do."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import dvc
from pipeline.doctor import machine
from pipeline.doctor import services as services_module
from pipeline.doctor.finding import CHECK_ERRORS, Finding, describe_error, guard
from pipeline.paths import project_root
from pipeline.tracking import store

if TYPE_CHECKING:
    from pipeline.params.load import Config

# pipeline.params.load and pipeline.doctor.data load PyTorch and pandas, which takes seconds: they are
# imported where they are needed, so that DVC and the servers answer in the meantime.

_SERVICES = (
    ("MLflow", "MLFLOW_TRACKING_URI", "runs go to mlflow.db in this folder"),
    ("Prefect", "PREFECT_API_URL", "retrain starts a temporary server for each run"),
)
_SOURCE = "source.json"
_COUNTS = "pixel_counts.csv"

OutputPaths = dict[str, Path | None]
"""Where DVC has an output, be it there or not."""


def run_checks(params: Path) -> list[Finding]:
    """Look at everything; nothing is changed, and a check that breaks off stops no other.

    Args:
        params: params.yaml.
    """
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(dvc.find_outputs, _SOURCE, _COUNTS)
        services = [
            pool.submit(guard, "services", partial(services_module.check_service, *service))
            for service in _SERVICES
        ]
        settings, parameters = _check_parameters(params)
        places, mistakes = _resolve_outputs(asked)
        source, counts = places.get(_SOURCE), places.get(_COUNTS)
        elsewhere = [
            pool.submit(guard, "credentials", partial(_check_account, settings, source)),
            pool.submit(guard, "hub", partial(_check_hub, settings)),
        ]
        return [
            *guard("environment", machine.check_environment),
            *guard("device", machine.check_device),
            *guard("disk", partial(_check_disk, settings, source)),
            *guard("git", machine.check_git),
            *parameters,
            *mistakes,
            *guard("raw data", partial(_check_data, settings, source, counts)),
            *(finding for answer in (*services, *elsewhere) for finding in answer.result()),
            *guard("runs", partial(services_module.check_pending_runs, store.journals_folder())),
        ]


def _check_parameters(params: Path) -> tuple["Config | None", list[Finding]]:
    try:
        from pipeline.params import load
    except CHECK_ERRORS as trouble:
        return None, [Finding("parameters", False, describe_error(trouble))]
    try:
        settings = load.load_config(params)
    except load.ParameterError as mistakes:
        told = str(mistakes).splitlines()
        return None, [Finding("parameters", False, mistake) for mistake in told]
    except CHECK_ERRORS as trouble:
        return None, [Finding("parameters", False, describe_error(trouble))]
    return settings, [
        Finding("parameters", True, f"{params} has no mistake"),
        *guard("parameters", partial(_check_external_paths, settings)),
    ]


def _check_external_paths(settings: "Config") -> Iterator[Finding]:
    """What the parameters name outside the project's folder."""
    if settings.download.source == "folder":
        folder = project_root() / str(settings.download.folder)
        is_there = folder.is_dir() and any(folder.iterdir())
        state = "is there" if is_there else "is missing or empty: mount it, or name another"
        yield Finding("parameters", is_there, f"download.folder: {folder} {state}")
    if settings.pretrained.source == "file":
        file = project_root() / str(settings.pretrained.file)
        is_there = file.is_file()
        state = "is there" if is_there else "is missing: bring it, or name another"
        yield Finding("parameters", is_there, f"pretrained.file: {file} {state}")


def _resolve_outputs(future: Future[OutputPaths]) -> tuple[OutputPaths, list[Finding]]:
    try:
        return future.result(), []
    except ValueError as mistake:
        return {}, [Finding("raw data", False, str(mistake))]


def _check_disk(settings: "Config | None", source: Path | None) -> Iterator[Finding]:
    from pipeline.doctor import disk_usage

    if settings is not None:
        out = source.parent if source is not None else None
        yield machine.check_disk(project_root(), disk_usage.estimate_bytes(settings, out=out))


def _check_data(
    settings: "Config | None", source: Path | None, counts: Path | None
) -> Iterator[Finding]:
    from pipeline.doctor import data

    if source is None:
        return
    raw = source.parent
    yield from guard("raw data", partial(_find_leftovers, raw.parent))  # what other stages left too
    if not source.exists():
        yield Finding("raw data", True, "no raw data yet: `dvc repro` brings it")
        return
    yield from guard("raw data", partial(data.check_source, source))
    train_extra = settings is not None and settings.remap.train_extra
    packages = partial(data.check_packages, raw, train_extra=train_extra)
    looked_at = guard("raw data", packages)
    yield from looked_at
    if counts is None or not counts.exists():
        yield Finding("frames", True, "nothing is remapped yet: `dvc repro` does it")
        return
    remapped = counts.parent
    tables = guard("frames", partial(data.check_tables, remapped))
    yield from tables
    if all(finding.ok for finding in looked_at + tables):
        yield from guard("deep look", partial(data.check_sample_frames, raw, remapped))


def _find_leftovers(folder: Path) -> Iterator[Finding]:
    from pipeline.download.partial_file import find_leftovers

    for sentence in find_leftovers(folder):
        yield Finding("raw data", True, sentence)


def _check_account(settings: "Config | None", source: Path | None) -> Iterator[Finding]:
    is_needed = settings is not None and _needs_account(settings, source)
    yield services_module.check_account(is_needed=is_needed)
    if settings is not None and is_needed:
        yield services_module.check_site(settings.download.site)


def _check_hub(settings: "Config | None") -> Iterator[Finding]:
    if settings is not None and settings.pretrained.source == "hub":
        pin = settings.pretrained.pin()
        yield from services_module.check_hub(pin.repository, pin.revision, pin.filename)


def _needs_account(settings: "Config", source: Path | None) -> bool:
    """Whether the parameters ask for something from the Cityscapes site that is not here."""
    from pipeline.stages.download import needs_account

    return source is not None and needs_account(settings.download, out=source.parent)
