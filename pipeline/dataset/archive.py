"""A Cityscapes package, a zip or an extracted folder, read by frame key."""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.dataset.archive_checks import find_zip_problems, list_folder_files, read_member
from pipeline.errors import raise_problems
from segformer.atomic import replacing
from segformer.cityscapes import TRAIN_EXTRA
from segformer.images import decode_png, verify_png

IMAGE = "leftImg8bit"
LABEL_IDS = "gtFine_labelIds"
COARSE_LABEL_IDS = "gtCoarse_labelIds"
TRAIN_IDS = "gtFine_labelTrainIds"
COARSE_TRAIN_IDS = "gtCoarse_labelTrainIds"

_NAME_PATTERN = re.compile(
    r"(?:.*/)?(?P<package>leftImg8bit|gtFine|gtCoarse)/(?P<split>[^/]+)/(?P<city>[^/]+)/"
    r"(?P<stem>(?P=city)_\d{6}_\d{6})_(?P<kind>[A-Za-z0-9_]+)\.png"
)


@dataclass(frozen=True)
class Member:
    """One image file of a package.

    Attributes:
        name: path in the archive, with forward slashes.
        key: the key of its frame, `train/aachen/aachen_000000_000019`.
        kind: `leftImg8bit`, `gtFine_labelIds`, `gtCoarse_labelIds`, `gtFine_instanceIds`, ...
    """

    name: str
    key: str
    kind: str


def member_name(key: str, kind: str) -> str:
    """The official name of a file of a frame: `gtFine/{key}_gtFine_labelIds.png`."""
    return f"{kind.split('_')[0]}/{key}_{kind}.png"


def train_ids_name(key: str) -> str:
    """The official name of a frame's map of train ids; `train_extra` has only coarse ones."""
    return member_name(key, COARSE_TRAIN_IDS if key.startswith(f"{TRAIN_EXTRA}/") else TRAIN_IDS)


class Archive:
    """A zip file or a folder, opened for reading.

    When pickled for another process, it is opened again there.

    Args:
        path: the zip, or a folder with `leftImg8bit/`, `gtFine/` or `gtCoarse/`.

    Raises:
        ValueError: if `path` is missing, is not a complete zip, or has entries that are never read
            (links, paths that lead out, zip bombs, duplicate names): all are listed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = None if path.is_dir() else _open_zip(path)
        if self._zip is None:
            names, problems = list_folder_files(path)
        else:
            entries = self._zip.infolist()
            names = [entry.filename for entry in entries if not entry.is_dir()]
            problems = find_zip_problems(entries)
        if problems:
            self._close()
            raise_problems(
                problems, str(path), "and nothing was read; fix them or download it again"
            )
        self._names = dict.fromkeys(sorted(names))

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._zip is not None:
            self._zip.close()

    def names(self) -> list[str]:
        """The names of all files, sorted, with forward slashes."""
        return list(self._names)

    def members(self, kind: str) -> dict[str, Member]:
        """All image files of one kind, by frame key.

        Raises:
            ValueError: if two files belong to the same frame.
        """
        return index_by_frame(self._names, kind, self.path)

    def read(self, name: str) -> bytes:
        """Read one file.

        Raises:
            ValueError: if it is missing or damaged.
        """
        if name not in self._names:
            raise ValueError(f"{self.path}: {name} is missing")
        if self._zip is None:
            return (self.path / name).read_bytes()
        try:
            return read_member(self._zip, name)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise ValueError(f"{self.path}: {name} is damaged ({error})") from None

    def file_size(self, name: str) -> int:
        """The uncompressed size of a file, in bytes."""
        if self._zip is None:
            return (self.path / name).stat().st_size
        return self._zip.getinfo(name).file_size

    def read_image_size(self, name: str) -> tuple[int, int]:
        """Rows and columns of a photograph; its checksums are verified, its pixels not decoded.

        Raises:
            ValueError: naming the file, if it is not an image, is damaged, or is not 8 bit RGB.
        """
        return verify_png(self.read(name), "RGB", f"{self.path}: {name}")

    def open_photograph(self, key: str) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB: the photograph of a frame.

        Raises:
            ValueError: naming the file, if it is missing or `open_image` raises one.
        """
        member = self._photographs.get(key)
        if member is None:
            raise ValueError(
                f"{self.path}: {member_name(key, IMAGE)} is missing; run `dvc repro --force remap`"
            )
        return self.open_image(member.name)

    @cached_property
    def _photographs(self) -> dict[str, Member]:
        return self.members(IMAGE)

    def open_image(self, name: str) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB: one photograph.

        Raises:
            ValueError: naming the file, if it cannot be decoded or is not 8 bit RGB.
        """
        return np.asarray(self._open_png(name, "RGB"), dtype=np.uint8)

    def open_labels(self, name: str) -> NDArray[np.uint8]:
        """(h, w) uint8: one label map, ids as stored.

        Raises:
            ValueError: naming the file, if it cannot be decoded or is not 8 bit gray.
        """
        return np.asarray(self.open_label_image(name), dtype=np.uint8)

    def open_label_image(self, name: str) -> Image.Image:
        """One label map as a PIL image, which PIL counts and maps faster than NumPy.

        Raises:
            ValueError: as `open_labels`.
        """
        return self._open_png(name, "L")

    def _open_png(self, name: str, mode: str) -> Image.Image:
        return decode_png(self.read(name), mode, f"{self.path}: {name}")


class ZipWriter:
    """Adds members to a zip so that the same members give the same bytes.

    Members are stored, not compressed (PNGs do not get smaller), and dated 1 January 1980, the
    earliest date of the format.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._zip = archive

    def add(self, name: str, content: bytes) -> None:
        """Store `content` under `name`."""
        self._zip.writestr(zipfile.ZipInfo(name), content)


@contextmanager
def write_zip(path: Path) -> Iterator[ZipWriter]:
    """Write a zip to `path`, whole or not at all."""
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        yield ZipWriter(archive)


def index_by_frame(names: Iterable[str], kind: str, location: Path) -> dict[str, Member]:
    """Find the image files of one kind among file names, by frame key.

    Args:
        names: file names.
        kind: such as `leftImg8bit`.
        location: the package, for the error.

    Raises:
        ValueError: if two files belong to the same frame; all such pairs are listed.
    """
    members: dict[str, Member] = {}
    duplicates = []
    for name in names:
        parts = _NAME_PATTERN.fullmatch(name)
        if parts is None or parts["kind"] != kind or parts["package"] != kind.split("_")[0]:
            continue
        key = f"{parts['split']}/{parts['city']}/{parts['stem']}"
        if key in members:
            duplicates.append(f"{members[key].name} and {name} are the same frame")
        members.setdefault(key, Member(name, key, kind))
    raise_problems(duplicates, str(location), "with duplicate frames; keep one file of each")
    return members


def find_misnamed(names: Iterable[str], kind: str) -> list[str]:
    """Names with the ending of one kind of image that do not follow the official pattern."""
    return [
        name
        for name in names
        if name.endswith(f"_{kind}.png")
        and not name.rpartition("/")[2].startswith(".")  # macOS leaves such files
        and _NAME_PATTERN.fullmatch(name) is None
    ]


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError):
        raise ValueError(f"{path} is not a complete zip file: download it again") from None
