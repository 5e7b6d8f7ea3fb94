"""Download: bring the raw data, always as the two official zips, wherever they come from."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline import credentials, folder_source, packages, site_source
from pipeline.arriving import find_leftovers
from pipeline.cityscapes_site import DEFAULT_URL, Site
from pipeline.disk import explain_disk_full
from pipeline.meter import ProgressCallback
from pipeline.packages import Package, select_packages
from pipeline.patience import RetryPolicy, Notify
from pipeline.root import project_root
from pipeline.section import Section
from pipeline.splits import TRAIN_EXTRA
from segformer.atomic import write_text

IMAGE_ZIP = packages.IMAGES.name
LABEL_ZIP = packages.LABELS.name

DrawableSide = Annotated[int, Field(ge=32)]
"""Pixels; on less there is no street to be seen."""


class Synthetic(Section):
    """What to draw when the source is `synthetic`."""

    train: PositiveInt
    """Training frames."""
    val: PositiveInt
    """Validation frames."""
    size: tuple[DrawableSide, DrawableSide]
    seed: NonNegativeInt


class Download(Section):
    """Where the raw data comes from."""

    source: Literal["synthetic", "cityscapes", "folder"]
    folder: str | None
    """For `folder`: an extracted Cityscapes tree, or a folder that holds the official zips."""
    site: str = DEFAULT_URL
    """For `cityscapes`: where the site is."""
    train_extra: bool = False
    """Whether the photographs of `train_extra` and the coarse labels are brought too."""
    synthetic: Synthetic

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "folder" and not self.folder:
            raise ValueError("source is folder, so folder must name one")
        if self.source == "synthetic" and self.train_extra:
            raise ValueError("train_extra is not drawn: it needs source cityscapes or folder")
        site = urlsplit(self.site)
        is_here = site.scheme == "http" and site.hostname in {"127.0.0.1", "::1", "localhost"}
        # Also: what stands in params.yaml goes to Git and to MLflow.
        if not site.hostname or "@" in site.netloc or not (site.scheme == "https" or is_here):
            raise ValueError(f"site must be {DEFAULT_URL} or another https address, without a password")
        return self

    @property
    def progress_unit(self) -> str:
        """What `run` counts for its progress."""
        return "frames" if self.source == "synthetic" else "MB"


@dataclass(frozen=True)
class DownloadServices:
    """By what means the real data is brought.

    Attributes:
        find_account: gives the site's account; called only if something has to be fetched.
        packages: what there is, with sizes and sums.
        retry_policy: with the site.
    """

    find_account: Callable[[], credentials.Account] = credentials.find_account
    packages: tuple[Package, ...] = packages.OFFICIAL_PACKAGES
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)


def needs_account(params: Download, *, out: Path) -> bool:
    """Whether something will have to be fetched from the site, as far as sizes tell."""
    return params.source == "cityscapes" and not all(
        site_source.seems_complete(package, out) for package in select_packages(params.train_extra)
    )


def download_data(
    params: Download,
    *,
    out: Path,
    progress: ProgressCallback,
    notify: Notify = lambda _: None,
    services: DownloadServices = DownloadServices(),
) -> None:
    """Write the two zips, `source.json` and the folder `train_extra` into `out`.

    The folder holds two more zips if they are asked for, and `packages.json`, their names.

    Raises:
        ValueError: if the data cannot be brought: why, and what to do.
    """
    out.mkdir(parents=True, exist_ok=True)
    task = _DownloadTask(params, out, progress, notify, services)
    facts = _SOURCES[params.source](task)
    for package in services.packages:
        if package not in task.packages:
            package.path_in(out).unlink(missing_ok=True)
    # Also if it is all that the folder holds: DVC warns of an empty one at every run.
    extra = [package.name for package in task.packages if package.is_extra]
    write_text(out / TRAIN_EXTRA / "packages.json", json.dumps(extra) + "\n")
    write_text(out / "source.json", json.dumps(facts, indent=1) + "\n")
    for sentence in find_leftovers(out):
        notify(sentence)


@dataclass(frozen=True)
class _DownloadTask:
    """What `run` was asked for; each source answers it with the facts for source.json."""

    params: Download
    out: Path
    progress: ProgressCallback
    notify: Notify
    services: DownloadServices

    @property
    def packages(self) -> tuple[Package, ...]:
        return select_packages(self.params.train_extra, self.services.packages)


def _draw_synthetic(task: _DownloadTask) -> dict[str, Any]:
    from pipeline import synthetic  # with SciPy, which no other source needs

    drawn = task.params.synthetic
    with explain_disk_full(task.out, label="download"):
        synthetic.write(
            task.out / IMAGE_ZIP,
            task.out / LABEL_ZIP,
            train=drawn.train,
            val=drawn.val,
            size=drawn.size,
            seed=drawn.seed,
            progress=task.progress,
        )
    return _synthetic_facts(drawn)


def _synthetic_facts(synthetic: Synthetic) -> dict[str, Any]:
    return {"source": "synthetic", **synthetic.model_dump(mode="json")}


def _fetch_from_site(task: _DownloadTask) -> dict[str, Any]:
    address = task.params.site.rstrip("/")
    patience = replace(task.services.retry_policy, notify=task.notify)
    site_source.fetch_packages(
        task.packages,
        task.out,
        open_site=lambda: Site(address, task.services.find_account(), patience),
        progress=task.progress,
        notify=task.notify,
    )
    sums = {package.name: package.md5 for package in task.packages}
    return {"source": "cityscapes", "site": address, "md5": sums}


def _import_from_folder(task: _DownloadTask) -> dict[str, Any]:
    assert task.params.folder is not None
    folder = project_root() / task.params.folder
    found = folder_source.require_packages(folder, task.packages)
    return {
        "source": "folder",
        "folder": str(folder.resolve()),
        "train_extra": task.params.train_extra,
        "files": folder_source.list_files(folder, found),
        "md5": folder_source.import_packages(found, task.out, progress=task.progress, notify=task.notify),
    }


_SOURCES = {"synthetic": _draw_synthetic, "cityscapes": _fetch_from_site, "folder": _import_from_folder}


def has_synthetic_data(synthetic: Synthetic, out: Path) -> bool:
    """Whether the frames asked for seem to lie in `out`: by source.json, and the zips' names."""
    try:
        facts = _read_source_record(out / "source.json")
    except (OSError, ValueError):  # whoever looks at the raw data tells of it
        return False
    are_there = all((out / name).is_file() for name in (IMAGE_ZIP, LABEL_ZIP))
    return are_there and facts == _synthetic_facts(synthetic)


def find_source_changes(source: Path) -> list[str]:
    """What has changed in the folder that the raw data was taken from, a sentence per change.

    Args:
        source: the `source.json` of the last download.

    Returns:
        Nothing if all is as it was, if the source is no folder, or if the folder is gone or empty
        (a disk that is not mounted): what was taken in stays good without it.

    Raises:
        ValueError: if `source` is not what `run` writes.
    """
    facts = _read_source_record(source)
    folder = Path(facts.get("folder", ""))
    if facts.get("source") != "folder" or not folder.is_dir():
        return []
    found = folder_source.find_packages(folder, select_packages(facts.get("train_extra", False)))
    if not any(found.values()):
        return []
    before = {name: rest for name, *rest in facts["files"]}
    now = {name: rest for name, *rest in folder_source.list_files(folder, found)}
    groups = {
        "added": sorted(now.keys() - before.keys()),
        "removed": sorted(before.keys() - now.keys()),
        "changed": sorted(name for name in now.keys() & before.keys() if now[name] != before[name]),
    }
    return [
        f"{folder}: {len(names)} {'file' if len(names) == 1 else 'files'} {what} since the download"
        f" (first: {names[0]})"
        for what, names in groups.items()
        if names
    ]


def _read_source_record(source: Path) -> dict[str, Any]:
    try:
        facts = json.loads(source.read_text(encoding="utf-8")) if source.exists() else {}
        is_whole = facts.get("source") != "folder" or (
            isinstance(facts["folder"], str) and all(len(file) == 3 for file in facts["files"])
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ValueError(f"{source} is damaged: `dvc repro --force download`")
    return dict(facts)
