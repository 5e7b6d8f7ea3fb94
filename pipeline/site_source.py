"""The source `cityscapes`: missing packages are fetched from the site and proved right."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from pipeline.arriving import Arriving, part_of
from pipeline.cityscapes_site import BY_HAND, Site
from pipeline.disk import demand_room
from pipeline.meter import Meter, Progress, in_words
from pipeline.packages import Package, md5_of
from pipeline.patience import Say
from pipeline.transfer import Offer


def may_be_whole(package: Package, out: Path) -> bool:
    """Whether a package or all its pieces seem to lie there, told by size alone.

    Of a package whose size is not known pieces may be few: only its own name counts.
    """
    target, part = package.place(out), pieces_of(package, out)
    if target.is_file() and package.size in (None, target.stat().st_size):
        return True
    return part.is_file() and package.size == part.stat().st_size


def pieces_of(package: Package, out: Path) -> Path:
    """Where the pieces of a package gather: never in the folder `train_extra`, which DVC keeps."""
    return part_of(out / package.name)


def bring(
    packages: Iterable[Package],
    out: Path,
    *,
    site: Callable[[], Site],
    progress: Progress,
    say: Say,
) -> None:
    """See that every package lies below `out`, whole and with the right sum.

    What is right already is neither fetched nor touched, and if that is all, the site is not asked.

    Args:
        packages: those wanted.
        out: the stage's folder.
        site: goes there; called only if something is missing.
        progress: shows how far it is, in megabytes.
        say: told what a person should see.

    Raises:
        ValueError: what went wrong and what to do; what has arrived is kept.
    """
    with ExitStack() as stack:
        missing = {}
        for package in packages:
            # Opened first: what another process is about to finish is not yet there to be found.
            into = stack.enter_context(Arriving(package.place(out), out))
            if _is_here(package, out, say):
                into.start_over()  # pieces of what is whole are of no use
            elif _are_all_here(package, into, say):
                into.accept()
            else:
                missing[package] = into
        if missing:
            _fetch(missing, out, site(), progress)


def _fetch(missing: dict[Package, Arriving], out: Path, site: Site, progress: Progress) -> None:
    offers = _chosen(site, list(missing))
    for package, offer in offers.items():
        _compare_sums(site, package, offer)
    left = sum(
        max(0, (package.size or offers[package].size or 0) - into.size)
        for package, into in missing.items()
    )
    demand_room(out, left, whose="download")
    meter = Meter(progress, left, tells_speed=True)
    for package, into in missing.items():
        site.fetch(package, offers[package], into, meter)
        _prove(package, into)


def _is_here(package: Package, out: Path, say: Say) -> bool:
    target = package.place(out)
    if not target.is_file():
        return False
    size = target.stat().st_size
    if package.size in (None, size):
        say(f"{target}: reading its {in_words(size)} to compare the md5 sum")
        if md5_of(target) == package.md5:
            return True
    say(f"{target} is not the official package: it is replaced once that has arrived")
    return False


def _are_all_here(package: Package, into: Arriving, say: Say) -> bool:
    if into.size:
        say(
            f"{package.name}: {in_words(into.size)} are here from before: reading them, to go on"
            " where they end"
        )
    return into.md5 == package.md5


def _chosen(site: Site, packages: list[Package]) -> dict[Package, Offer]:
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
    return {package: offers[package.name] for package in packages}


def _compare_sums(site: Site, package: Package, offer: Offer) -> None:
    told = site.md5(package, offer)
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
