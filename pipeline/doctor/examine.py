"""Checks the machine, the parameters, the data and the services, and says how to fix problems."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipeline import dvc
from pipeline.doctor import disk_usage, machine, services
from pipeline.doctor.finding import CHECK_ERRORS, Finding, describe_error, guard
from pipeline.download.partial_file import find_leftovers
from pipeline.params import load
from pipeline.params.load import Config
from pipeline.paths import project_root
from pipeline.stages.download import needs_account
from pipeline.tracking import store

_SERVICES = (
    ("MLflow", "MLFLOW_TRACKING_URI", "runs go to mlflow.db in this folder"),
    ("Prefect", "PREFECT_API_URL", "retrain starts a temporary server for each run"),
)
_SOURCE = "source.json"
_COUNTS = "pixel_counts.csv"

OutputPaths = dict[str, Path | None]
"""Paths of DVC outputs by file name; the files need not exist."""


def run_checks(params: Path) -> list[Finding]:
    """Run all checks without changing anything; a check that fails does not stop the others.

    Args:
        params: path of params.yaml.
    """
    with ThreadPoolExecutor() as pool:
        outputs = pool.submit(dvc.find_outputs, _SOURCE, _COUNTS)
        servers = [
            pool.submit(guard, "services", partial(services.check_service, *service))
            for service in _SERVICES
        ]
        config, parameters = _check_parameters(params)
        paths, errors = _resolve_outputs(outputs)
        source, counts = paths.get(_SOURCE), paths.get(_COUNTS)
        remotes = [
            pool.submit(guard, "credentials", partial(_check_account, config, source)),
            pool.submit(guard, "hub", partial(_check_hub, config)),
        ]
        return [
            *guard("environment", machine.check_environment),
            *guard("device", machine.check_device),
            *guard("disk", partial(_check_disk, config, source)),
            *guard("git", machine.check_git),
            *parameters,
            *errors,
            *guard("raw data", partial(_check_data, config, source, counts)),
            *(finding for future in (*servers, *remotes) for finding in future.result()),
            *guard("runs", partial(services.check_pending_runs, store.journals_folder())),
        ]


def _check_parameters(params: Path) -> tuple[Config | None, list[Finding]]:
    try:
        config = load.load_config(params)
    except load.ParameterError as error:
        messages = str(error).splitlines()
        return None, [Finding("parameters", False, message) for message in messages]
    except CHECK_ERRORS as error:
        return None, [Finding("parameters", False, describe_error(error))]
    return config, [
        Finding("parameters", True, f"{params} is valid"),
        *guard("parameters", partial(_check_external_paths, config)),
    ]


def _check_external_paths(config: Config) -> Iterator[Finding]:
    """Check the paths outside of the project that the parameters name."""
    if config.download.source == "folder":
        folder = project_root() / str(config.download.folder)
        exists = folder.is_dir() and any(folder.iterdir())
        state = "exists" if exists else "is missing or empty: mount it, or set another folder"
        yield Finding("parameters", exists, f"download.folder: {folder} {state}")
    if config.pretrained.source == "file":
        file = project_root() / str(config.pretrained.file)
        exists = file.is_file()
        state = "exists" if exists else "is missing: copy it there, or set another file"
        yield Finding("parameters", exists, f"pretrained.file: {file} {state}")


def _resolve_outputs(future: Future[OutputPaths]) -> tuple[OutputPaths, list[Finding]]:
    try:
        return future.result(), []
    except ValueError as error:
        return {}, [Finding("raw data", False, str(error))]


def _check_disk(config: Config | None, source: Path | None) -> Iterator[Finding]:
    if config is not None:
        out = source.parent if source is not None else None
        yield machine.check_disk(project_root(), disk_usage.estimate_bytes(config, out=out))


def _check_data(
    config: Config | None, source: Path | None, counts: Path | None
) -> Iterator[Finding]:
    # pandas takes a second to import; in the meantime DVC and the servers answer.
    from pipeline.doctor import data

    if source is None:
        return
    raw = source.parent
    yield from guard("raw data", partial(_check_leftovers, raw.parent))  # of all stages
    if not source.exists():
        yield Finding("raw data", True, "no raw data yet: `dvc repro` downloads or generates it")
        return
    yield from guard("raw data", partial(data.check_source, source))
    train_extra = config is not None and config.remap.train_extra
    packages = guard("raw data", partial(data.check_packages, raw, train_extra=train_extra))
    yield from packages
    if counts is None or not counts.exists():
        yield Finding("frames", True, "no remapped labels yet: `dvc repro` makes them")
        return
    remapped = counts.parent
    tables = guard("frames", partial(data.check_tables, remapped))
    yield from tables
    if all(finding.ok for finding in packages + tables):
        yield from guard("sample", partial(data.check_sample_frames, raw, remapped))


def _check_leftovers(folder: Path) -> Iterator[Finding]:
    for message in find_leftovers(folder):
        yield Finding("raw data", True, message)


def _check_account(config: Config | None, source: Path | None) -> Iterator[Finding]:
    """Check the account, and the Cityscapes site if something must be downloaded from it."""
    if config is None or source is None or not needs_account(config.download, out=source.parent):
        yield services.check_account(is_needed=False)
        return
    yield services.check_account(is_needed=True)
    yield services.check_site(config.download.site)


def _check_hub(config: Config | None) -> Iterator[Finding]:
    if config is not None and config.pretrained.source == "hub":
        pin = config.pretrained.pin()
        yield from services.check_hub(pin.repository, pin.revision, pin.filename)
