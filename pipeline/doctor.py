"""Looks at the machine, the parameters and the data, and says what is wrong and what to do."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import access_checks, machine_checks, repro
from pipeline.finding import Finding
from pipeline.root import project_root

if TYPE_CHECKING:
    from pipeline.config import Config

# pipeline.config and pipeline.data_checks load PyTorch and pandas, which takes seconds: they are
# imported where they are needed, so that DVC and the servers answer in the meantime.

_SERVICES = (
    ("MLflow", "MLFLOW_TRACKING_URI", "runs go to mlflow.db in this folder"),
    ("Prefect", "PREFECT_API_URL", "retrain starts a temporary server for each run"),
)


def examine(params: Path) -> list[Finding]:
    """Look at everything; nothing is changed.

    Args:
        params: params.yaml.
    """
    with ThreadPoolExecutor() as pool:
        outputs = [pool.submit(repro.output, one) for one in ("source.json", "pixel_counts.csv")]
        services = [pool.submit(access_checks.service, *service) for service in _SERVICES]
        settings, parameters = _parameters(params)
        source, counts, mistakes = _outputs(outputs)
        return [
            *machine_checks.environment(),
            machine_checks.device(),
            *_disk(settings, source),
            machine_checks.git(),
            *parameters,
            *mistakes,
            *_data(source, counts),
            *(service.result() for service in services),
            *_access(settings, source),
        ]


def _parameters(params: Path) -> tuple["Config | None", list[Finding]]:
    from pipeline import config

    try:
        settings = config.load(params)
    except config.ParameterError as mistakes:
        told = str(mistakes).splitlines()
        return None, [Finding("parameters", False, mistake) for mistake in told]
    return settings, [
        Finding("parameters", True, f"{params} has no mistake"),
        *_named_paths(settings),
    ]


def _named_paths(settings: "Config") -> Iterator[Finding]:
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


def _outputs(asked: list[Future[Path | None]]) -> tuple[Path | None, Path | None, list[Finding]]:
    """Where DVC has source.json and pixel_counts.csv, be they there or not."""
    try:
        source, counts = (one.result() for one in asked)
    except ValueError as mistake:
        return None, None, [Finding("raw data", False, str(mistake))]
    return source, counts, []


def _disk(settings: "Config | None", source: Path | None) -> Iterator[Finding]:
    from pipeline import disk_needs

    if settings is not None:
        has_raw_data = _is_there(source) and not _is_to_be_fetched(settings, source)
        needs = disk_needs.of(settings, has_raw_data=has_raw_data)
        yield machine_checks.disk(project_root(), needs)


def _data(source: Path | None, counts: Path | None) -> Iterator[Finding]:
    from pipeline import data_checks

    if source is None or not source.exists():
        yield Finding("raw data", True, "no raw data yet: `dvc repro` brings it")
        return
    yield from data_checks.source(source)
    looked_at = list(data_checks.packages(source.parent))
    yield from looked_at
    if counts is None or not counts.exists():
        yield Finding("frames", True, "nothing is remapped yet: `dvc repro` does it")
        return
    tables = list(data_checks.tables(counts.parent))
    yield from tables
    if all(finding.is_well for finding in looked_at + tables):
        yield data_checks.some_frames(source.parent, counts.parent)


def _access(settings: "Config | None", source: Path | None) -> Iterator[Finding]:
    is_needed = settings is not None and _is_to_be_fetched(settings, source)
    yield access_checks.account(is_needed=is_needed)
    if settings is None:
        return
    if is_needed:
        yield access_checks.site(settings.download.site)
    if settings.pretrained.source == "hub":
        pin = settings.pretrained.pin()
        yield from access_checks.hub(pin.repository, pin.revision, pin.filename)


def _is_there(path: Path | None) -> bool:
    return path is not None and path.exists()


def _is_to_be_fetched(settings: "Config", source: Path | None) -> bool:
    """Whether the parameters ask for something from the Cityscapes site that is not here."""
    from pipeline.stages.download import needs_account

    return source is not None and needs_account(settings.download, out=source.parent)
