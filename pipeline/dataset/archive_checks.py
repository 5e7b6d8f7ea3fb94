"""What a package may hold: plain files of a sane size, under names that lead nowhere else."""

import copy
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

MAX_BYTES = 2**28
"""No file of a package may unpack to more; a photograph of Cityscapes has about 2.5 MB."""

MAX_RATIO = 200
"""Nor to more times its packed size: PNGs hardly shrink, polygons in JSON about ten times."""

_MIN_BYTES_FOR_RATIO = 2**20
"""Bytes; a label map that is all void shrinks without end, but to a few kilobytes."""

_ENCRYPTED = 1  # bit 0 of a member's flags; APPNOTE.TXT, section 4.4.4
_COMPRESSION_METHODS = (
    ZIP_STORED,
    ZIP_DEFLATED,
)  # the others unpack more at once than they are asked for
_REGULAR_TYPES = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: written by a tool that keeps no file types


def find_zip_problems(entries: Sequence[ZipInfo]) -> list[str]:
    """What is wrong with a zip's members, by its directory alone: nothing is unpacked."""
    problems = [
        f"{_printable_name(entry)} {reason}"
        for entry in entries
        for reason in _entry_problems(entry)
    ]
    times = Counter(entry.filename for entry in entries)
    problems += [f"{name} occurs {count} times" for name, count in times.items() if count > 1]
    return problems


def read_member(archive: ZipFile, name: str) -> bytes:
    """Unpack one member, and no more of it than the directory claims, which `zip_problems` judged.

    `ZipFile.read` unpacks the whole stream before it cuts it to the size claimed.

    Raises:
        ValueError: if there is more or less than is claimed; beside what `zipfile` raises.
    """
    entry = copy.copy(archive.getinfo(name))
    claimed = entry.file_size
    entry.file_size += 1  # so that a byte too many is seen, not cut off
    with archive.open(entry) as file:
        content = file.read(entry.file_size)
    if len(content) != claimed:
        than = "more" if len(content) > claimed else "fewer"
        raise ValueError(f"it has {than} than the {claimed} bytes it claims")
    return content


def list_folder_files(folder: Path, excludes: str | None = None) -> tuple[list[str], list[str]]:
    """Names of the files below a folder, with forward slashes, and what is wrong with them.

    A link to a folder elsewhere (a city on another disk) is that folder. One to a folder that is
    met anyway is told: two names for one frame, or a walk that never ends, would come of it. A link
    to a file of the same kind, in any of these folders, is that file.

    Args:
        folder: where to look.
        excludes: a folder right below it that is passed over.
    """
    walk = _FolderScan(folder, excludes)
    problems = walk.problems
    for name in walk.names:
        reason = _file_problem(folder / name, walk.roots)
        if reason:
            problems.append(f"{name} {reason}")
    return walk.names, problems


class _FolderScan:
    """Every file below a folder, in folders linked to as well.

    Attributes:
        names: of the files, below the folder.
        roots: the real folders that were looked through, none below another.
        problems: folders that were not looked through.
    """

    def __init__(self, folder: Path, excludes: str | None) -> None:
        self.names: list[str] = []
        self.roots = [folder.resolve()]
        self.problems: list[str] = []
        for place, folders, files in os.walk(
            folder, onerror=self._record_unlistable, followlinks=True
        ):
            parent = Path(place)
            below = "" if parent == folder else f"{parent.relative_to(folder).as_posix()}/"
            self.names += [below + name for name in files]
            # In order, so that of two links to one folder it is always the same that is followed.
            folders[:] = [
                name
                for name in sorted(folders)
                if below + name != excludes and self._may_enter(parent / name, below + name)
            ]

    def _record_unlistable(self, error: OSError) -> None:
        self.problems.append(f"{error.filename} cannot be listed ({error.strerror})")

    def _may_enter(self, path: Path, name: str) -> bool:
        if not path.is_symlink():
            return True
        real = path.resolve()
        if any(real.is_relative_to(home) or home.is_relative_to(real) for home in self.roots):
            self.problems.append(f"{name} is a link to {real}, a folder that is met anyway")
            return False
        self.roots.append(real)
        return True


def _entry_problems(entry: ZipInfo) -> Iterator[str]:
    name = entry.orig_filename  # zipfile cuts `filename` at a zero byte
    # As Windows reads it: both slashes, drives and servers, whichever system wrote the zip.
    path = PureWindowsPath(name)
    if path.anchor or ".." in path.parts:
        yield "leads out of the archive"
    if "\0" in name:
        yield "has a zero byte in its name"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in _REGULAR_TYPES:
        yield "is a link" if kind == stat.S_IFLNK else "is no plain file"
    if entry.flag_bits & _ENCRYPTED:
        yield "is encrypted"
    if entry.compress_type not in _COMPRESSION_METHODS:
        yield (
            f"is packed by method {entry.compress_type}; only stored and deflated files are read:"
            " pack it again"
        )
    if entry.file_size > MAX_BYTES:
        yield _describe_too_large(entry.file_size)
    elif entry.file_size > max(_MIN_BYTES_FOR_RATIO, MAX_RATIO * entry.compress_size):
        yield (
            f"unpacks from {entry.compress_size} bytes to {entry.file_size}, over {MAX_RATIO} times"
            " as much: a bomb"
        )


def _file_problem(path: Path, roots: Sequence[Path]) -> str | None:
    try:
        facts = path.stat()
    except OSError as error:  # a link to nothing, or in a circle
        return f"cannot be read ({error.strerror}{_describe_target(path)})"
    if path.is_symlink():
        real = path.resolve()
        if not any(real.is_relative_to(home) for home in roots):
            return f"is a link that leads out, to {real}; put the file itself there"
        if real.suffix != path.suffix:
            return f"is a link to {real}, another kind of file"
    if not stat.S_ISREG(facts.st_mode):
        return "is no plain file"
    # Pictures only: whoever unpacked the official zips may have left them lying here.
    if path.suffix == ".png" and facts.st_size > MAX_BYTES:
        return _describe_too_large(facts.st_size)
    return None


def _describe_target(path: Path) -> str:
    return f": it is a link to {path.readlink()}" if path.is_symlink() else ""


def _describe_too_large(size: int) -> str:
    return f"has {size} bytes unpacked; more than {MAX_BYTES} are never read"


def _printable_name(entry: ZipInfo) -> str:
    name = entry.orig_filename
    return name if name.isprintable() else ascii(name)
