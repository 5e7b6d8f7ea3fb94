"""Download: bring the raw data, always as the two official zips, wherever they come from."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.dataset import packages
from pipeline.dataset.packages import Package, select_packages
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

IMAGE_ZIP = packages.IMAGES.name
LABEL_ZIP = packages.LABELS.name


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
        from_site.seems_complete(package, out) for package in select_packages(params.train_extra)
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
    from_site.fetch_packages(
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
    found = from_folder.require_packages(folder, task.packages)
    return {
        "source": "folder",
        "folder": str(folder.resolve()),
        "train_extra": task.params.train_extra,
        "files": from_folder.list_files(folder, found),
        "md5": from_folder.import_packages(
            found, task.out, progress=task.progress, notify=task.notify
        ),
    }


_SOURCES = {
    "synthetic": _draw_synthetic,
    "cityscapes": _fetch_from_site,
    "folder": _import_from_folder,
}


def has_synthetic_data(synthetic: Synthetic, out: Path) -> bool:
    """Whether the frames asked for seem to lie in `out`: by source.json, and the zips' names."""
    try:
        facts = read_source_record(out / "source.json")
    except (OSError, ValueError):  # whoever looks at the raw data tells of it
        return False
    are_there = all((out / name).is_file() for name in (IMAGE_ZIP, LABEL_ZIP))
    return are_there and facts == _synthetic_facts(synthetic)
