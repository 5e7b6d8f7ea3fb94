"""The source `cityscapes`: downloads missing packages from the site and verifies them."""

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
    """Whether a package or its complete partial file seems to be in `out`, by size alone.

    A partial file of a package of unknown size does not count.
    """
    target, part = package.path_in(out), package_partial_path(package, out)
    if target.is_file() and package.size in (None, target.stat().st_size):
        return True
    return part.is_file() and package.size == part.stat().st_size


def package_partial_path(package: Package, out: Path) -> Path:
    """The partial file of a package; never in a folder that DVC caches whole."""
    return partial_path(out / package.name)


def fetch_packages(
    packages: Iterable[Package],
    out: Path,
    *,
    open_site: Callable[[], Site],
    progress: ProgressCallback,
    notify: Notify,
) -> None:
    """Download every missing package into `out`, complete and with the right md5 sum.

    Packages that are verified already are not touched; if all are, the site gets no request.

    Args:
        packages: the packages to provide.
        out: the stage's folder.
        open_site: logs in to the site; called only if a package is missing.
        progress: called with megabytes.
        notify: called with messages for the user.

    Raises:
        ValueError: if a package cannot be downloaded; received bytes are kept.
    """
    with ExitStack() as stack:
        missing = {}
        for package in packages:
            # Opened first, with its lock: another process may be about to finish the package.
            partial_file = stack.enter_context(PartialFile(package.path_in(out), out))
            if _is_verified(package, out, notify):
                partial_file.restart()  # the complete package makes it useless
            elif _is_complete(package, partial_file, notify):
                partial_file.finalize()
            else:
                missing[package] = partial_file
        if missing:
            _download_missing(missing, out, open_site(), progress)


def _download_missing(
    missing: dict[Package, PartialFile], out: Path, site: Site, progress: ProgressCallback
) -> None:
    remote_packages = _match_remote_packages(site, list(missing))
    for package, remote in remote_packages.items():
        _check_remote_md5(site, package, remote)
    remaining = sum(
        max(0, (package.size or remote_packages[package].size or 0) - partial_file.size)
        for package, partial_file in missing.items()
    )
    require_space(out, remaining, label="download")
    byte_progress = ByteProgress(progress, remaining, show_speed=True)
    for package, partial_file in missing.items():
        site.download(package, remote_packages[package], partial_file, byte_progress)
        _accept_verified(package, partial_file)


def _is_verified(package: Package, out: Path, notify: Notify) -> bool:
    target = package.path_in(out)
    if not target.is_file():
        return False
    size = target.stat().st_size
    if package.size in (None, size):
        notify(f"{target}: reading {format_bytes(size)} to compare the md5 sum")
        if compute_md5(target) == package.md5:
            return True
    notify(f"{target} is not the official package: it will be replaced after the download")
    return False


def _is_complete(package: Package, partial_file: PartialFile, notify: Notify) -> bool:
    if partial_file.size:
        notify(
            f"{package.name}: reading {format_bytes(partial_file.size)} of an earlier download, to"
            " resume it"
        )
    return partial_file.md5 == package.md5


def _match_remote_packages(site: Site, packages: list[Package]) -> dict[Package, RemotePackage]:
    """Find the packages in the site's list; an error if one is not listed."""
    listed = site.list_packages()
    if not listed:
        raise ValueError(
            f"download: {site.base_url} accepts this account, but lists no packages for it: log in"
            " there in a browser, accept the terms of use and wait for the e-mail with access"
        )
    missing = [package.name for package in packages if package.name not in listed]
    if missing:
        raise ValueError(
            f"download: {site.base_url} does not offer {' and '.join(missing)} to this account,"
            f" only {', '.join(sorted(listed))}: request access there in a browser,"
            f" {MANUAL_DOWNLOAD_ADVICE}"
        )
    return {package: listed[package.name] for package in packages}


def _check_remote_md5(site: Site, package: Package, remote: RemotePackage) -> None:
    md5 = site.fetch_md5(package, remote)
    if md5 != package.md5:
        raise ValueError(
            f"download: {site.base_url} gives the md5 sum {md5} for {package.name}, but it should"
            f" be {package.md5}: nothing was downloaded; the package has changed, or this is not"
            " the official site; correct download.site, or report it to this project"
        )


def _accept_verified(package: Package, partial_file: PartialFile) -> None:
    if partial_file.md5 == package.md5:
        partial_file.finalize()
        return
    quarantined = partial_file.quarantine()
    raise ValueError(
        f"download: {package.name} has the md5 sum {partial_file.md5}, but it should be"
        f" {package.md5}: it was moved to {quarantined}, which is never used and may be deleted;"
        " repeat to download it again, and if it fails again, check the disk and any proxy"
    )
