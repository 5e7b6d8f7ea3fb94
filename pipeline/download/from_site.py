"""The source `cityscapes`: missing packages are fetched from the site and proved right."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from pipeline.dataset.packages import Package, compute_md5
from pipeline.disk import require_space
from pipeline.download.byte_progress import ByteProgress, ProgressCallback
from pipeline.download.partial_file import PartialFile, partial_path
from pipeline.download.retry import Notify
from pipeline.download.site import MANUAL_DOWNLOAD_ADVICE, Site
from pipeline.download.transfer import RemotePackage
from pipeline.formatting import format_bytes


def seems_complete(package: Package, out: Path) -> bool:
    """Whether a package or all its pieces seem to lie there, told by size alone.

    Of a package whose size is not known pieces may be few: only its own name counts.
    """
    target, part = package.path_in(out), package_partial_path(package, out)
    if target.is_file() and package.size in (None, target.stat().st_size):
        return True
    return part.is_file() and package.size == part.stat().st_size


def package_partial_path(package: Package, out: Path) -> Path:
    """Where the pieces of a package gather: never in the folder `train_extra`, which DVC keeps."""
    return partial_path(out / package.name)


def fetch_packages(
    packages: Iterable[Package],
    out: Path,
    *,
    open_site: Callable[[], Site],
    progress: ProgressCallback,
    notify: Notify,
) -> None:
    """See that every package lies below `out`, whole and with the right sum.

    What is right already is neither fetched nor touched, and if that is all, the site is not asked.

    Args:
        packages: those wanted.
        out: the stage's folder.
        open_site: goes there; called only if something is missing.
        progress: shows how far it is, in megabytes.
        notify: told what a person should see.

    Raises:
        ValueError: what went wrong and what to do; what has arrived is kept.
    """
    with ExitStack() as stack:
        missing = {}
        for package in packages:
            # Opened first: what another process is about to finish is not yet there to be found.
            into = stack.enter_context(PartialFile(package.path_in(out), out))
            if _is_verified(package, out, notify):
                into.restart()  # pieces of what is whole are of no use
            elif _is_complete(package, into, notify):
                into.finalize()
            else:
                missing[package] = into
        if missing:
            _download_missing(missing, out, open_site(), progress)


def _download_missing(
    missing: dict[Package, PartialFile], out: Path, site: Site, progress: ProgressCallback
) -> None:
    offers = _match_remote_packages(site, list(missing))
    for package, offer in offers.items():
        _check_remote_md5(site, package, offer)
    left = sum(
        max(0, (package.size or offers[package].size or 0) - into.size)
        for package, into in missing.items()
    )
    require_space(out, left, label="download")
    meter = ByteProgress(progress, left, show_speed=True)
    for package, into in missing.items():
        site.download(package, offers[package], into, meter)
        _accept_verified(package, into)


def _is_verified(package: Package, out: Path, notify: Notify) -> bool:
    target = package.path_in(out)
    if not target.is_file():
        return False
    size = target.stat().st_size
    if package.size in (None, size):
        notify(f"{target}: reading its {format_bytes(size)} to compare the md5 sum")
        if compute_md5(target) == package.md5:
            return True
    notify(f"{target} is not the official package: it is replaced once that has arrived")
    return False


def _is_complete(package: Package, partial_file: PartialFile, notify: Notify) -> bool:
    if partial_file.size:
        notify(
            f"{package.name}: {format_bytes(partial_file.size)} are here from before: reading them, to go on"
            " where they end"
        )
    return partial_file.md5 == package.md5


def _match_remote_packages(site: Site, packages: list[Package]) -> dict[Package, RemotePackage]:
    """What the site offers of the packages, refused unless it is all of them."""
    offers = site.list_packages()
    if not offers:
        raise ValueError(
            f"download: {site.base_url} lets this account in, but offers it nothing: log in there in"
            " a browser, accept the terms of use and wait for the mail that grants access"
        )
    absent = [package.name for package in packages if package.name not in offers]
    if absent:
        raise ValueError(
            f"download: {site.base_url} does not offer {' and '.join(absent)} to this account, only"
            f" {', '.join(sorted(offers))}: ask for access there in a browser, {MANUAL_DOWNLOAD_ADVICE}"
        )
    return {package: offers[package.name] for package in packages}


def _check_remote_md5(site: Site, package: Package, remote: RemotePackage) -> None:
    told = site.fetch_md5(package, remote)
    if told != package.md5:
        raise ValueError(
            f"download: {site.base_url} gives the md5 sum {told} for {package.name}, but it should"
            f" be {package.md5}: nothing was fetched; either the package has changed, or this is"
            " not the official site; correct download.site, or report it to this project"
        )


def _accept_verified(package: Package, partial_file: PartialFile) -> None:
    if partial_file.md5 == package.md5:
        partial_file.finalize()
        return
    aside = partial_file.quarantine()
    raise ValueError(
        f"download: {package.name} arrived with the md5 sum {partial_file.md5}, but it should be"
        f" {package.md5}: it was set aside as {aside}, is never used and may be deleted; repeat to"
        " fetch it anew, and if it happens again, suspect the disk or a proxy on the way"
    )
