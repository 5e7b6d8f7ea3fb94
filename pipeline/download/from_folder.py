"""The source `folder`: imports official zips or an extracted tree from a disk."""

from collections.abc import Collection, Iterable, Sequence
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
"""The files of each package: its zip alone, or all images of its extracted tree."""

_MEMBER_SUFFIXES = {".png", ".json"}


def find_packages(folder: Path, packages: Iterable[Package]) -> PackageFiles:
    """Find the files of each package in a folder; an empty list for a missing package.

    Zips must be in the folder itself; trees there, or in a folder with the name of their zip.

    Raises:
        ValueError: if a tree has links that lead out, or unreadable files: all are listed.
    """
    return {package: _find_files(folder, package) for package in packages}


def require_packages(folder: Path, packages: Iterable[Package]) -> PackageFiles:
    """Return what `find_packages` finds.

    Raises:
        ValueError: if a package is missing.
    """
    if not folder.is_dir():
        raise ValueError(f"download.folder: {folder.resolve()} is not a folder")
    package_files = find_packages(folder, packages)
    missing = [
        f"{package.name} nor {package.tree}/"
        for package, files in package_files.items()
        if not files
    ]
    if missing:
        raise ValueError(
            f"download.folder: {folder.resolve()} has neither {', nor '.join(missing)}"
            " with images: set it to the folder with the official zips, or to the extracted tree"
        )
    return package_files


def is_zip(package: Package, files: Sequence[Path]) -> bool:
    """Whether the files of a package are its zip, not a tree."""
    return files[0].name == package.name


def list_files(folder: Path, package_files: PackageFiles) -> list[list[Any]]:
    """Name, size in bytes and modification time in ns of each file."""
    paths = [path for files in package_files.values() for path in files]
    return [
        [path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
        for path in paths
    ]


def import_packages(
    package_files: PackageFiles, out: Path, *, progress: ProgressCallback, notify: Notify
) -> dict[str, str | None]:
    """Import each package below `out`: a zip unchanged, a tree as a zip without recompression.

    Args:
        package_files: the files to import.
        out: the stage's folder.
        progress: called with megabytes.
        notify: called with messages for the user.

    Returns:
        The md5 sum of each imported zip, and None for a tree, by package name.

    Raises:
        ValueError: if a zip is damaged or has unsafe entries, or the disk is full.
    """
    byte_progress = ByteProgress(
        progress, sum(path.stat().st_size for files in package_files.values() for path in files)
    )
    sums: dict[str, str | None] = {}
    for package, paths in package_files.items():
        target = package.path_in(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_zip(package, paths):
            sums[package.name] = _import_zip(package, paths[0], target, byte_progress, notify)
        else:
            _import_tree(package, paths, target, byte_progress)
            sums[package.name] = None
    return sums


def _find_files(folder: Path, package: Package) -> list[Path]:
    if (folder / package.name).is_file():
        return [folder / package.name]
    for tree in (folder / package.tree, folder / Path(package.name).stem / package.tree):
        files = _find_tree_files(tree, package.excludes)
        if files:
            return files
    return []


def _find_tree_files(tree: Path, excludes: Collection[str]) -> list[Path]:
    """All images and polygon files of a tree.

    Raises:
        ValueError: listing all unreadable folders, and all files that are not regular.
    """
    if not tree.is_dir():
        return []
    names, problems = list_folder_files(tree, excludes)
    raise_problems(
        problems, f"download.folder: {tree}", "and nothing was imported; fix them and repeat"
    )
    paths = sorted(map(PurePosixPath, names))
    # macOS leaves `._name.png` beside `name.png` on disks of other systems.
    return [
        tree / path
        for path in paths
        if path.suffix in _MEMBER_SUFFIXES and not path.name.startswith(".")
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
                f" {md5} instead of {package.md5}: it is damaged; download it again"
            )
        with Archive(source):
            pass  # opening it finds the problems that `remap` would find later
        notify(f"{source} is not the official package (its md5 sum is {md5}): imported unchanged")
    if target.is_file() and (
        target.samefile(source) or (target.stat().st_size == size and compute_md5(target) == md5)
    ):
        return md5
    method = link_or_copy(source, target, label=f"download: {package.name}")
    notify(f"{source}: {format_bytes(size)} imported by {method}")
    return md5


def _import_tree(
    package: Package, paths: list[Path], target: Path, byte_progress: ByteProgress
) -> None:
    needed = sum(path.stat().st_size for path in paths)
    require_space(target.parent, needed, label=f"download: {package.name}")
    # Names in the zip begin with the package's first folder, leftImg8bit or gtFine.
    first = package.tree.split("/")[0]
    root = next(folder for folder in paths[0].parents if (folder / first).is_dir())
    disk_errors = explain_disk_full(target.parent, label=f"download: {package.name}")
    with disk_errors, write_zip(target) as archive:
        for path in paths:
            archive.add(path.relative_to(root).as_posix(), path.read_bytes())
            byte_progress.add(path.stat().st_size)
