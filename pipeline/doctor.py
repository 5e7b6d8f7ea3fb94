"""Looks at the machine, the parameters and the data, and says what is wrong and what to do."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import access_checks, machine_checks, repro, store
from pipeline.checking import BREAKS, checked, why_it_broke
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
_SOURCE = "source.json"
_COUNTS = "pixel_counts.csv"

Places = dict[str, Path | None]
"""Where DVC has an output, be it there or not."""


def examine(params: Path) -> list[Finding]:
    """Look at everything; nothing is changed, and a check that breaks off stops no other.

    Args:
        params: params.yaml.
    """
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(repro.outputs, _SOURCE, _COUNTS)
        services = [
            pool.submit(checked, "services", partial(access_checks.service, *service))
            for service in _SERVICES
        ]
        settings, parameters = _parameters(params)
        places, mistakes = _places(asked)
        source, counts = places.get(_SOURCE), places.get(_COUNTS)
        elsewhere = [
            pool.submit(checked, "credentials", partial(_account, settings, source)),
            pool.submit(checked, "hub", partial(_hub, settings)),
        ]
        return [
            *checked("environment", machine_checks.environment),
            *checked("device", machine_checks.device),
            *checked("disk", partial(_disk, settings, source)),
            *checked("git", machine_checks.git),
            *parameters,
            *mistakes,
            *checked("raw data", partial(_data, settings, source, counts)),
            *(finding for answer in (*services, *elsewhere) for finding in answer.result()),
            *checked("runs", partial(access_checks.unsent, store.journals())),
        ]


def _parameters(params: Path) -> tuple["Config | None", list[Finding]]:
    try:
        from pipeline import config
    except BREAKS as trouble:
        return None, [Finding("parameters", False, why_it_broke(trouble))]
    try:
        settings = config.load(params)
    except config.ParameterError as mistakes:
        told = str(mistakes).splitlines()
        return None, [Finding("parameters", False, mistake) for mistake in told]
    except BREAKS as trouble:
        return None, [Finding("parameters", False, why_it_broke(trouble))]
    return settings, [
        Finding("parameters", True, f"{params} has no mistake"),
        *checked("parameters", partial(_named_paths, settings)),
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


def _places(asked: Future[Places]) -> tuple[Places, list[Finding]]:
    try:
        return asked.result(), []
    except ValueError as mistake:
        return {}, [Finding("raw data", False, str(mistake))]


def _disk(settings: "Config | None", source: Path | None) -> Iterator[Finding]:
    from pipeline import disk_needs

    if settings is not None:
        out = source.parent if source is not None else None
        yield machine_checks.disk(project_root(), disk_needs.of(settings, out=out))


def _data(settings: "Config | None", source: Path | None, counts: Path | None) -> Iterator[Finding]:
    from pipeline import data_checks

    if source is None:
        return
    raw = source.parent
    yield from checked("raw data", partial(_left_over, raw.parent))  # what other stages left too
    if not source.exists():
        yield Finding("raw data", True, "no raw data yet: `dvc repro` brings it")
        return
    yield from checked("raw data", partial(data_checks.source, source))
    train_extra = settings is not None and settings.remap.train_extra
    packages = partial(data_checks.packages, raw, train_extra=train_extra)
    looked_at = checked("raw data", packages)
    yield from looked_at
    if counts is None or not counts.exists():
        yield Finding("frames", True, "nothing is remapped yet: `dvc repro` does it")
        return
    remapped = counts.parent
    tables = checked("frames", partial(data_checks.tables, remapped))
    yield from tables
    if all(finding.is_well for finding in looked_at + tables):
        yield from checked("deep look", partial(data_checks.some_frames, raw, remapped))


def _left_over(folder: Path) -> Iterator[Finding]:
    from pipeline.arriving import left_over

    for sentence in left_over(folder):
        yield Finding("raw data", True, sentence)


def _account(settings: "Config | None", source: Path | None) -> Iterator[Finding]:
    is_needed = settings is not None and _is_to_be_fetched(settings, source)
    yield access_checks.account(is_needed=is_needed)
    if settings is not None and is_needed:
        yield access_checks.site(settings.download.site)


def _hub(settings: "Config | None") -> Iterator[Finding]:
    if settings is not None and settings.pretrained.source == "hub":
        pin = settings.pretrained.pin()
        yield from access_checks.hub(pin.repository, pin.revision, pin.filename)


def _is_to_be_fetched(settings: "Config", source: Path | None) -> bool:
    """Whether the parameters ask for something from the Cityscapes site that is not here."""
    from pipeline.stages.download import needs_account

    return source is not None and needs_account(settings.download, out=source.parent)
