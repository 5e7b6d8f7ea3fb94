"""The source `folder`: official zips or an extracted tree, found on a disk and taken over."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.dataset.archive import Archive, write_zip
from pipeline.dataset.archive_checks import list_folder_files
from pipeline.dataset.packages import Package, compute_md5
from pipeline.disk import explain_disk_full, link_or_copy, require_space
from pipeline.download.byte_progress import ByteProgress, ProgressCallback
from pipeline.download.retry import Notify
from pipeline.errors import raise_problems
from pipeline.formatting import format_bytes

PackageFiles = dict[Package, list[Path]]
"""The files of each package: its zip alone, or every picture of its extracted tree."""

_PICTURE_SUFFIXES = {".png", ".json"}


def find_packages(folder: Path, packages: Iterable[Package]) -> PackageFiles:
    """What a folder holds of each package; an empty list for one that is not there.

    Zips lie in the folder itself; trees there, or in a folder with their zip's name.

    Raises:
        ValueError: if a tree holds links that lead out, or what cannot be read: all is listed.
    """
    return {package: _find_files(folder, package) for package in packages}


def require_packages(folder: Path, packages: Iterable[Package]) -> PackageFiles:
    """What `find` finds.

    Raises:
        ValueError: unless it is something of every package.
    """
    if not folder.is_dir():
        raise ValueError(f"download.folder: {folder.resolve()} is not a folder")
    found = find_packages(folder, packages)
    missing = [f"{each.name} nor {each.tree}/" for each, files in found.items() if not files]
    if missing:
        raise ValueError(
            f"download.folder: {folder.resolve()} holds neither {', nor '.join(missing)}"
            " with pictures: name the folder that holds the official zips, or the extracted tree"
        )
    return found


def is_zip(package: Package, files: Sequence[Path]) -> bool:
    """Whether what was found of a package is its zip, not a tree."""
    return files[0].name == package.name


def list_files(folder: Path, package_files: PackageFiles) -> list[list[Any]]:
    """Name, bytes and time of change of every file found."""
    paths = [path for files in package_files.values() for path in files]
    return [
        [path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
        for path in paths
    ]


def import_packages(
    package_files: PackageFiles, out: Path, *, progress: ProgressCallback, notify: Notify
) -> dict[str, str | None]:
    """Put every package below `out`: a zip as it is, a tree as a zip without recompression.

    Args:
        package_files: what to take.
        out: the stage's folder.
        progress: shows how far it is, in megabytes.
        notify: told what a person should see.

    Returns:
        The md5 sum of every zip that was taken as it is, and None for a tree, by package name.

    Raises:
        ValueError: if a zip is damaged or holds what is never read, or the disk has no room.
    """
    meter = ByteProgress(
        progress, sum(path.stat().st_size for files in package_files.values() for path in files)
    )
    sums: dict[str, str | None] = {}
    for package, paths in package_files.items():
        target = package.path_in(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_zip(package, paths):
            sums[package.name] = _import_zip(package, paths[0], target, meter, notify)
        else:
            _import_tree(package, paths, target, meter)
            sums[package.name] = None
    return sums


def _find_files(folder: Path, package: Package) -> list[Path]:
    if (folder / package.name).is_file():
        return [folder / package.name]
    for place in (folder / package.tree, folder / Path(package.name).stem / package.tree):
        pictures = _find_pictures(place, package.excludes)
        if pictures:
            return pictures
    return []


def _find_pictures(tree: Path, excludes: str | None) -> list[Path]:
    """Every picture of a tree.

    Raises:
        ValueError: listing all that could not be looked through, and all that is no plain file.
    """
    if not tree.is_dir():
        return []
    names, problems = list_folder_files(tree, excludes)
    raise_problems(
        problems, f"download.folder: {tree}", "and nothing was taken; mend it and repeat"
    )
    paths = sorted(map(PurePosixPath, names))
    # Macs leave `._name.png` beside `name.png` on other systems' disks.
    return [
        tree / path
        for path in paths
        if path.suffix in _PICTURE_SUFFIXES and not path.name.startswith(".")
    ]


def _import_zip(
    package: Package, source: Path, target: Path, byte_progress: ByteProgress, notify: Notify
) -> str:
    md5 = compute_md5(source, byte_progress.add)
    size = source.stat().st_size
    if md5 != package.md5:
        if size == package.size:
            raise ValueError(
                f"download.folder: {source} has the size of the official package, but the md5 sum"
                f" {md5} for {package.md5}: it was damaged on the way; fetch it again"
            )
        with Archive(source):
            pass  # opening it finds what `remap` would find after it was taken
        notify(f"{source} is not the official package (its md5 sum is {md5}): taken as it is")
    if target.is_file() and (
        target.samefile(source) or (target.stat().st_size == size and compute_md5(target) == md5)
    ):
        return md5
    how = link_or_copy(source, target, label=f"download: {package.name}")
    notify(f"{source}: {format_bytes(size)} taken by {how}")
    return md5


def _import_tree(
    package: Package, paths: list[Path], target: Path, byte_progress: ByteProgress
) -> None:
    needed = sum(path.stat().st_size for path in paths)
    require_space(target.parent, needed, label=f"download: {package.name}")
    # Names begin with the package's first folder, leftImg8bit or gtFine, wherever that lies.
    first = package.tree.split("/")[0]
    top = next(folder for folder in paths[0].parents if (folder / first).is_dir())
    full = explain_disk_full(target.parent, label=f"download: {package.name}")
    with full, write_zip(target) as archive:
        for path in paths:
            archive.add(path.relative_to(top).as_posix(), path.read_bytes())
            byte_progress.add(path.stat().st_size)
