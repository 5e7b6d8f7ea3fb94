"""What a package may hold: plain files of a sane size, under names that lead nowhere else."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from zipfile import ZipInfo

MAX_BYTES = 2**28
"""No file of a package may unpack to more; a photograph of Cityscapes has about 2.5 MB."""

MAX_RATIO = 200
"""Nor to more times its packed size: PNGs hardly shrink, polygons in JSON about ten times."""

_RATIO_COUNTS_FROM = 2**20
"""Bytes; a label map that is all void shrinks without end, but to a few kilobytes."""

_ENCRYPTED = 1  # bit 0 of a member's flags; APPNOTE.TXT, section 4.4.4
_PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: written by a tool that keeps no file types


def zip_problems(entries: Sequence[ZipInfo]) -> list[str]:
    """What is wrong with a zip's members, by its directory alone: nothing is unpacked."""
    problems = [f"{_shown(entry)} {reason}" for entry in entries for reason in _reasons(entry)]
    times = Counter(entry.filename for entry in entries)
    problems += [f"{name} occurs {count} times" for name, count in times.items() if count > 1]
    return problems


def folder_files(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files below a folder, with forward slashes, and what is wrong with them.

    A link to a file in the folder is a file. Links to folders are not followed but told: two names
    for one frame, or a walk that never ends, would come of them.
    """
    inside = folder.resolve()
    names, problems = [], []

    def cannot_list(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be listed ({error.strerror})")

    for place, folders, files in os.walk(folder, onerror=cannot_list):
        parent = Path(place)
        below = "" if parent == folder else f"{parent.relative_to(folder).as_posix()}/"
        problems += [
            f"{below}{name} is a link to a folder; put the folder itself there"
            for name in folders
            if (parent / name).is_symlink()
        ]
        for name in files:
            reason = _file_problem(parent / name, inside)
            if reason:
                problems.append(f"{below}{name} {reason}")
            names.append(below + name)
    return names, problems


def _reasons(entry: ZipInfo) -> Iterator[str]:
    name = entry.orig_filename  # zipfile cuts `filename` at a zero byte
    # As Windows reads it: both slashes, drives and servers, whichever system wrote the zip.
    path = PureWindowsPath(name)
    if path.anchor or ".." in path.parts:
        yield "leads out of the archive"
    if "\0" in name:
        yield "has a zero byte in its name"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in _PLAIN:
        yield "is a link" if kind == stat.S_IFLNK else "is no plain file"
    if entry.flag_bits & _ENCRYPTED:
        yield "is encrypted"
    if entry.file_size > MAX_BYTES:
        yield _too_large(entry.file_size)
    elif entry.file_size > max(_RATIO_COUNTS_FROM, MAX_RATIO * entry.compress_size):
        yield (
            f"unpacks from {entry.compress_size} bytes to {entry.file_size}, over {MAX_RATIO} times"
            " as much: a bomb"
        )


def _file_problem(path: Path, inside: Path) -> str | None:
    if path.is_symlink():
        target = path.resolve()
        if not target.is_relative_to(inside):
            return f"is a link that leads out, to {target}"
        if not target.exists():
            return f"is a link to {target}, which is missing"
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return "is no plain file"
    # Pictures only: whoever unpacked the official zips may have left them lying here.
    if path.suffix == ".png" and facts.st_size > MAX_BYTES:
        return _too_large(facts.st_size)
    return None


def _too_large(size: int) -> str:
    return f"has {size} bytes unpacked; more than {MAX_BYTES} are never read"


def _shown(entry: ZipInfo) -> str:
    name = entry.orig_filename
    return name if name.isprintable() else ascii(name)
