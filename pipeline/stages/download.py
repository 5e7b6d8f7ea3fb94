"""Bring the raw data, from any source, as the two official zips."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import synthetic
from pipeline.dataset.packages import (
    DEMO_VIDEO,
    DEMO_VIDEO_IMAGES,
    IMAGES,
    LABELS,
    OFFICIAL_PACKAGES,
    Package,
    select_packages,
)
from pipeline.disk import explain_disk_full
from pipeline.download import credentials, from_folder, from_site
from pipeline.download.byte_progress import ProgressCallback
from pipeline.download.partial_file import find_leftovers
from pipeline.download.retry import Notify, RetryPolicy
from pipeline.download.site import Site
from pipeline.download.source_record import read_source_record
from pipeline.params.download import Download, Synthetic
from pipeline.paths import project_root
from segformer.atomic import write_text
from segformer.cityscapes import TRAIN_EXTRA

IMAGE_ZIP = IMAGES.name
LABEL_ZIP = LABELS.name
DRIVE_ZIPS = (DEMO_VIDEO_IMAGES.name, "gtFine_demoVideo.zip")
"""A drawn drive and its labels, in the folder `demo_video`."""


@dataclass(frozen=True)
class DownloadServices:
    """The collaborators of a download, which tests replace.

    Attributes:
        find_account: returns the account on the site; called only if a file must be fetched.
        packages: the packages that exist, with sizes and MD5 sums.
        retry_policy: for requests to the site.
    """

    find_account: Callable[[], credentials.Account] = credentials.find_account
    packages: tuple[Package, ...] = OFFICIAL_PACKAGES
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)


def needs_account(params: Download, *, out: Path) -> bool:
    """Whether a package must be fetched from the site, judged by file sizes."""
    packages = select_packages(train_extra=params.train_extra, demo_video=params.demo_video)
    return params.source == "cityscapes" and not all(
        from_site.seems_complete(package, out) for package in packages
    )


def download_data(
    params: Download,
    *,
    out: Path,
    progress: ProgressCallback,
    notify: Notify = lambda _: None,
    services: DownloadServices = DownloadServices(),
) -> None:
    """Write the two zips, `source.json` and two folders into `out`.

    The folders `train_extra` and `demo_video` hold the zips that the parameters of these names
    request, and `packages.json`, a list of their names. A drawn drive is in `demo_video` too, with
    its labels.

    Raises:
        ValueError: if the data cannot be brought; the message names the cause and the remedy.
    """
    out.mkdir(parents=True, exist_ok=True)
    task = _DownloadTask(params, out, progress, notify, services)
    facts = _SOURCES[params.source](task)
    for folder in (TRAIN_EXTRA, DEMO_VIDEO):
        names = task.optional_zips(folder)
        for old in (out / folder).glob("*.zip"):
            if old.name not in names:
                old.unlink()
        # Written even if the list is empty: DVC warns of an empty folder at every run.
        write_text(out / folder / "packages.json", json.dumps(names) + "\n")
    write_text(out / "source.json", json.dumps(facts, indent=1) + "\n")
    for message in find_leftovers(out):
        notify(message)


def has_synthetic_data(params: Synthetic, out: Path) -> bool:
    """Whether `out` seems to hold the requested frames, judged by source.json and file names."""
    try:
        facts = read_source_record(out / "source.json")
    except (OSError, ValueError):  # reported by the checks of the raw data
        return False
    zips = [out / IMAGE_ZIP, out / LABEL_ZIP]
    zips += [out / DEMO_VIDEO / name for name in DRIVE_ZIPS] if params.drive else []
    has_zips = all(path.is_file() for path in zips)
    return has_zips and facts == _synthetic_facts(params)


@dataclass(frozen=True)
class _DownloadTask:
    """The arguments of `download_data`, from which a source makes the facts for source.json."""

    params: Download
    out: Path
    progress: ProgressCallback
    notify: Notify
    services: DownloadServices

    @property
    def packages(self) -> tuple[Package, ...]:
        return select_packages(
            self.services.packages,
            train_extra=self.params.train_extra,
            demo_video=self.params.demo_video,
        )

    def optional_zips(self, folder: str) -> list[str]:
        """The names of the zips that a folder of optional packages holds."""
        if self.params.source == "synthetic":
            return list(DRIVE_ZIPS) if folder == DEMO_VIDEO and self.params.synthetic.drive else []
        return [package.name for package in self.packages if package.option == folder]


def _draw_synthetic(task: _DownloadTask) -> dict[str, Any]:
    params = task.params.synthetic
    total = params.train + params.val + params.drive
    with explain_disk_full(task.out, label="download"):
        synthetic.write(
            task.out / IMAGE_ZIP,
            task.out / LABEL_ZIP,
            train=params.train,
            val=params.val,
            size=params.size,
            seed=params.seed,
            progress=lambda done, _: task.progress(done, total),
        )
        if params.drive:
            synthetic.write_drive(
                *(task.out / DEMO_VIDEO / name for name in DRIVE_ZIPS),
                frames=params.drive,
                size=params.size,
                seed=params.seed,
                progress=lambda done, drive: task.progress(total - drive + done, total),
            )
    return _synthetic_facts(params)


def _synthetic_facts(params: Synthetic) -> dict[str, Any]:
    return {"source": "synthetic", **params.model_dump(mode="json")}


def _fetch_from_site(task: _DownloadTask) -> dict[str, Any]:
    url = task.params.site.rstrip("/")
    retry_policy = replace(task.services.retry_policy, notify=task.notify)
    from_site.fetch_packages(
        task.packages,
        task.out,
        open_site=lambda: Site(url, task.services.find_account(), retry_policy),
        progress=task.progress,
        notify=task.notify,
    )
    sums = {package.name: package.md5 for package in task.packages}
    return {"source": "cityscapes", "site": url, "md5": sums}


def _import_from_folder(task: _DownloadTask) -> dict[str, Any]:
    assert task.params.folder is not None
    folder = project_root() / task.params.folder
    packages = from_folder.require_packages(folder, task.packages)
    return {
        "source": "folder",
        "folder": str(folder.resolve()),
        "train_extra": task.params.train_extra,
        "demo_video": task.params.demo_video,
        "files": from_folder.list_files(folder, packages),
        "md5": from_folder.import_packages(
            packages, task.out, progress=task.progress, notify=task.notify
        ),
    }


_SOURCES = {
    "synthetic": _draw_synthetic,
    "cityscapes": _fetch_from_site,
    "folder": _import_from_folder,
}
