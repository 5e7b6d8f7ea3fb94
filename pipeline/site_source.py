"""The source `cityscapes`: missing packages are fetched from the site and proved right."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from pipeline.arriving import Arriving, part_of
from pipeline.cityscapes_site import BY_HAND, Offer, Site
from pipeline.credentials import Account
from pipeline.disk import demand_room
from pipeline.meter import Meter, Progress, in_words
from pipeline.packages import Package, md5_of
from pipeline.patience import Patience, Say


def may_be_whole(package: Package, out: Path) -> bool:
    """Whether a package or all its pieces seem to lie there, told by size alone."""
    target = package.place(out)
    return any(
        path.is_file() and package.size in (None, path.stat().st_size)
        for path in (target, part_of(target))
    )


def bring(
    packages: Iterable[Package],
    out: Path,
    *,
    address: str,
    account: Callable[[], Account],
    patience: Patience,
    progress: Progress,
    say: Say,
) -> None:
    """See that every package lies below `out`, whole and with the right sum.

    What is right already is neither fetched nor touched, and if that is all, the site is not asked.

    Args:
        packages: those wanted.
        out: the stage's folder.
        address: of the site.
        account: gives the account; called only if something is missing.
        patience: with the site.
        progress: shows how far it is, in megabytes.
        say: told what a person should see.

    Raises:
        ValueError: what went wrong and what to do; what has arrived is kept.
    """
    missing = [package for package in packages if not _is_here(package, out, say)]
    if not missing:
        return
    site = Site(address, account(), say, patience)
    offers = _chosen(site, missing)
    for package in missing:
        _compare_sums(site, package, offers[package.name])
    with ExitStack() as stack:
        arriving = {package: stack.enter_context(_opened(package, out, say)) for package in missing}
        left = sum(
            max(0, (package.size or offers[package.name].size or 0) - into.size)
            for package, into in arriving.items()
        )
        demand_room(out, left, whose="download")
        meter = Meter(progress, left, tells_speed=True)
        for package, into in arriving.items():
            site.fetch(offers[package.name], into, meter, size=package.size)
            _prove(package, into)


def _is_here(package: Package, out: Path, say: Say) -> bool:
    target = package.place(out)
    for path in (target, part_of(target)):
        if not path.is_file() or package.size not in (None, path.stat().st_size):
            continue
        say(f"{path}: reading its {in_words(path.stat().st_size)} to compare the md5 sum")
        if md5_of(path) == package.md5:
            path.replace(target)
            return True
    if target.is_file():
        say(f"{target} is not the official package: it is replaced once that has arrived")
    return False


def _opened(package: Package, out: Path, say: Say) -> Arriving:
    target = package.place(out)
    part = part_of(target)
    if part.is_file() and part.stat().st_size:
        say(f"{package.name}: {in_words(part.stat().st_size)} are here from before, going on there")
    return Arriving(target)


def _chosen(site: Site, packages: list[Package]) -> dict[str, Offer]:
    """What the site offers of the packages, refused unless it is all of them."""
    offers = site.offers()
    if not offers:
        raise ValueError(
            f"download: {site.address} lets this account in, but offers it nothing: log in there in"
            " a browser, accept the terms of use and wait for the mail that grants access"
        )
    absent = [package.name for package in packages if package.name not in offers]
    if absent:
        raise ValueError(
            f"download: {site.address} does not offer {' and '.join(absent)} to this account, only"
            f" {', '.join(sorted(offers))}: ask for access there in a browser, {BY_HAND}"
        )
    return offers


def _compare_sums(site: Site, package: Package, offer: Offer) -> None:
    told = site.md5(offer)
    if told != package.md5:
        raise ValueError(
            f"download: {site.address} gives the md5 sum {told} for {package.name}, but it should"
            f" be {package.md5}: nothing was fetched; either the package has changed, or this is"
            " not the official site; correct download.site, or report it to this project"
        )


def _prove(package: Package, into: Arriving) -> None:
    if into.md5 == package.md5:
        into.accept()
        return
    aside = into.set_aside()
    raise ValueError(
        f"download: {package.name} arrived with the md5 sum {into.md5}, but it should be"
        f" {package.md5}: it was set aside as {aside}, is never used and may be deleted; repeat to"
        " fetch it anew, and if it happens again, suspect the disk or a proxy on the way"
    )
