"""Checks of a package's contents: regular files of a plausible size, under safe paths."""

import copy
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PureWindowsPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

MAX_BYTES = 2**28
"""The largest uncompressed size of a file; a photograph of Cityscapes has about 2.5 MB."""

MAX_RATIO = 200
"""The largest compression ratio: PNGs hardly shrink, polygons in JSON about ten times."""

_MIN_BYTES_FOR_RATIO = 2**20
"""Bytes below which the ratio is not checked: a label map that is all void shrinks far more."""

_ENCRYPTED = 1  # bit 0 of a member's flags; APPNOTE.TXT, section 4.4.4
# Other decompressors return more bytes at once than requested.
_COMPRESSION_METHODS = (ZIP_STORED, ZIP_DEFLATED)
_REGULAR_TYPES = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: from a tool that records no types


def find_zip_problems(entries: Sequence[ZipInfo]) -> list[str]:
    """The problems of a zip's members, from its directory alone: nothing is decompressed."""
    problems = [
        f"{_printable_name(entry)} {reason}"
        for entry in entries
        for reason in _entry_problems(entry)
    ]
    counts = Counter(entry.filename for entry in entries)
    problems += [f"{name} occurs {count} times" for name, count in counts.items() if count > 1]
    return problems


def read_member(archive: ZipFile, name: str) -> bytes:
    """Decompress one member, at most to its size in the directory; `find_zip_problems` checks that.

    `ZipFile.read` decompresses the whole stream before it cuts it to that size.

    Raises:
        ValueError: if the member is longer or shorter than that; also what `zipfile` raises.
    """
    entry = copy.copy(archive.getinfo(name))
    claimed = entry.file_size
    entry.file_size += 1  # so that an excess byte is detected, not cut off
    with archive.open(entry) as file:
        content = file.read(entry.file_size)
    if len(content) != claimed:
        comparison = "more" if len(content) > claimed else "fewer"
        raise ValueError(f"it has {comparison} than the {claimed} bytes in the directory")
    return content


def list_folder_files(folder: Path, excludes: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """List the files below a folder, with forward slashes, and their problems.

    A link to a folder elsewhere (a city on another disk) is followed. A link to a folder that is
    already included is a problem: it would give two names to one frame, or never end. A link to a
    file with the same suffix, in any of these folders, is that file.

    Args:
        folder: the folder to scan.
        excludes: folders directly below it to skip.
    """
    scan = _FolderScan(folder, excludes)
    problems = scan.problems
    for name in scan.names:
        reason = _file_problem(folder / name, scan.roots)
        if reason:
            problems.append(f"{name} {reason}")
    return scan.names, problems


class _FolderScan:
    """All files below a folder, including linked folders.

    Attributes:
        names: the files, relative to the folder.
        roots: the resolved folders that were scanned, none below another.
        problems: folders that were not scanned.
    """

    def __init__(self, folder: Path, excludes: Collection[str]) -> None:
        self.names: list[str] = []
        self.roots = [folder.resolve()]
        self.problems: list[str] = []
        for path, folders, files in os.walk(
            folder, onerror=self._record_unlistable, followlinks=True
        ):
            parent = Path(path)
            prefix = "" if parent == folder else f"{parent.relative_to(folder).as_posix()}/"
            self.names += [prefix + name for name in files]
            # Sorted, so that of two links to one folder the same one is always followed.
            folders[:] = [
                name
                for name in sorted(folders)
                if prefix + name not in excludes and self._may_enter(parent / name, prefix + name)
            ]

    def _record_unlistable(self, error: OSError) -> None:
        self.problems.append(f"{error.filename} cannot be listed ({error.strerror})")

    def _may_enter(self, path: Path, name: str) -> bool:
        if not path.is_symlink():
            return True
        real = path.resolve()
        if any(real.is_relative_to(root) or root.is_relative_to(real) for root in self.roots):
            self.problems.append(f"{name} is a link to {real}, a folder that is already included")
            return False
        self.roots.append(real)
        return True


def _entry_problems(entry: ZipInfo) -> Iterator[str]:
    name = entry.orig_filename  # zipfile cuts `filename` at a zero byte
    # By the rules of Windows: both slashes, drives and servers, whichever system wrote the zip.
    path = PureWindowsPath(name)
    if path.anchor or ".." in path.parts:
        yield "leads out of the archive"
    if "\0" in name:
        yield "has a zero byte in its name"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in _REGULAR_TYPES:
        yield "is a link" if kind == stat.S_IFLNK else "is not a regular file"
    if entry.flag_bits & _ENCRYPTED:
        yield "is encrypted"
    if entry.compress_type not in _COMPRESSION_METHODS:
        yield (
            f"is compressed by method {entry.compress_type}; only stored and deflated files are"
            " read: compress it again"
        )
    if entry.file_size > MAX_BYTES:
        yield _describe_too_large(entry.file_size)
    elif entry.file_size > max(_MIN_BYTES_FOR_RATIO, MAX_RATIO * entry.compress_size):
        yield (
            f"decompresses from {entry.compress_size} bytes to {entry.file_size}, over {MAX_RATIO}"
            " times as many: a zip bomb"
        )


def _file_problem(path: Path, roots: Sequence[Path]) -> str | None:
    try:
        status = path.stat()
    except OSError as error:  # a broken or circular link
        return f"cannot be read ({error.strerror}{_describe_target(path)})"
    if path.is_symlink():
        real = path.resolve()
        if not any(real.is_relative_to(root) for root in roots):
            return f"is a link that leads out, to {real}; replace it by the file"
        if real.suffix != path.suffix:
            return f"is a link to {real}, another kind of file"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    # Images only: the official zips may still lie beside their extracted trees.
    if path.suffix == ".png" and status.st_size > MAX_BYTES:
        return _describe_too_large(status.st_size)
    return None


def _describe_target(path: Path) -> str:
    return f": it is a link to {path.readlink()}" if path.is_symlink() else ""


def _describe_too_large(size: int) -> str:
    return f"has {size} bytes uncompressed; the limit is {MAX_BYTES}"


def _printable_name(entry: ZipInfo) -> str:
    name = entry.orig_filename
    return name if name.isprintable() else ascii(name)
