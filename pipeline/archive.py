"""A Cityscapes package, zip or extracted folder, read alike: by frame key, never by position."""

import io
import re
import warnings
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
from PIL import Image, UnidentifiedImageError

from segformer.atomic import replacing

IMAGE = "leftImg8bit"
LABEL_IDS = "gtFine_labelIds"
TRAIN_IDS = "gtFine_labelTrainIds"

_NAME = re.compile(
    r"(?:.*/)?(?P<package>leftImg8bit|gtFine)/(?P<split>[^/]+)/(?P<city>[^/]+)/"
    r"(?P<stem>(?P=city)_\d{6}_\d{6})_(?P<kind>[A-Za-z0-9_]+)\.png"
)


@dataclass(frozen=True)
class Member:
    """One picture of a package.

    Attributes:
        name: where it lies in the archive, with forward slashes.
        key: its frame, `train/aachen/aachen_000000_000019`.
        kind: `leftImg8bit`, `gtFine_labelIds`, `gtFine_instanceIds`, ...
    """

    name: str
    key: str
    kind: str


def member_name(key: str, kind: str) -> str:
    """The official name of a frame's picture: `gtFine/{key}_gtFine_labelIds.png`."""
    return f"{kind.split('_')[0]}/{key}_{kind}.png"


class Archive:
    """A zip file or a folder, opened for reading.

    Args:
        path: the zip, or a folder that holds `leftImg8bit/` or `gtFine/`.

    Raises:
        ValueError: if there is nothing at `path`, or it is not a whole zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            return
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise ValueError(f"{path} is missing") from None
        except zipfile.BadZipFile:
            raise ValueError(f"{path} is not a whole zip file: fetch it again") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._zip is not None:
            self._zip.close()

    def names(self) -> list[str]:
        """Every file's name, sorted, with forward slashes."""
        if self._zip is not None:
            return sorted(entry.filename for entry in self._zip.infolist() if not entry.is_dir())
        files = (path for path in self.path.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.path).as_posix() for path in files)

    def members(self, kind: str) -> dict[str, Member]:
        """Every picture of one kind, by frame key.

        Raises:
            ValueError: if two files claim the same frame.
        """
        return index(self.names(), kind, self.path)

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            ValueError: if it is missing or damaged.
        """
        if self._zip is None:
            return (self.path / name).read_bytes()
        try:
            return self._zip.read(name)
        except KeyError:
            raise ValueError(f"{self.path}: {name} is missing") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise ValueError(f"{self.path}: {name} is damaged ({error})") from None

    def image_size(self, name: str) -> tuple[int, int]:
        """Rows and columns of a photograph whose checksums hold; its pixels are not decoded.

        Raises:
            ValueError: naming the file, if it is no picture, is damaged, or is not 8 bit RGB.
        """
        with self._open(name) as picture:
            columns, rows = picture.size
            self._demand_mode(picture, "RGB", name)
            try:
                picture.verify()
            except (OSError, SyntaxError) as error:
                raise self._unreadable(name, error) from None
        return rows, columns

    def photograph(self, key: str) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB: the photograph of a frame.

        Raises:
            ValueError: naming the file, if it is missing or `open_image` refuses it.
        """
        member = self._photographs.get(key)
        if member is None:
            raise ValueError(f"{self.path}: {member_name(key, IMAGE)} is missing; repeat remap")
        return self.open_image(member.name)

    @cached_property
    def _photographs(self) -> dict[str, Member]:
        return self.members(IMAGE)

    def open_image(self, name: str) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB: one photograph.

        Raises:
            ValueError: naming the file, if it cannot be decoded or is not 8 bit RGB.
        """
        return self._decode(name, "RGB")

    def open_labels(self, name: str) -> NDArray[np.uint8]:
        """(h, w) uint8: one label map, ids as stored.

        Raises:
            ValueError: naming the file, if it cannot be decoded or is not 8 bit grey.
        """
        return self._decode(name, "L")

    def _decode(self, name: str, mode: str) -> NDArray[np.uint8]:
        with self._open(name) as picture:
            try:
                picture.load()
            except (OSError, SyntaxError) as error:
                raise self._unreadable(name, error) from None
            self._demand_mode(picture, mode, name)
            return np.asarray(picture, dtype=np.uint8)

    def _open(self, name: str) -> Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return Image.open(io.BytesIO(self.read(name)), formats=["PNG"])
        except UnidentifiedImageError as error:
            raise self._unreadable(name, error) from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise ValueError(f"{self.path}: {name} is absurdly large and was not read") from None

    def _demand_mode(self, picture: Image.Image, mode: str, name: str) -> None:
        if picture.mode != mode:
            raise ValueError(
                f"{self.path}: {name} has mode {picture.mode}, but should be 8 bit {mode}"
            )

    def _unreadable(self, name: str, error: Exception) -> ValueError:
        reason = "no PNG" if isinstance(error, UnidentifiedImageError) else error
        return ValueError(f"{self.path}: {name} cannot be read ({reason}): fetch it again")


class ZipWriter:
    """What a zip is written through: the same members give the same bytes.

    Members are stored, not compressed (PNGs do not get smaller), and dated 1 January 1980, the
    earliest day that a zip can say.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._zip = archive

    def add(self, name: str, content: bytes) -> None:
        """Store `content` under `name`."""
        self._zip.writestr(zipfile.ZipInfo(name), content)

    def add_labels(self, name: str, labels: NDArray[np.uint8]) -> None:
        """Store (h, w) uint8 as an 8 bit grey PNG."""
        buffer = io.BytesIO()
        Image.fromarray(labels, mode="L").save(buffer, format="PNG")
        self.add(name, buffer.getvalue())


@contextmanager
def writing(path: Path) -> Iterator[ZipWriter]:
    """Write a zip at `path`, whole or not at all."""
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        yield ZipWriter(archive)


def index(names: Iterable[str], kind: str, where: Path) -> dict[str, Member]:
    """Find the pictures of one kind among file names, by frame key.

    Raises:
        ValueError: if two files claim the same frame; `where` is named.
    """
    found: dict[str, Member] = {}
    for name in names:
        parts = _NAME.fullmatch(name)
        if parts is None or parts["kind"] != kind or parts["package"] != kind.split("_")[0]:
            continue
        key = f"{parts['split']}/{parts['city']}/{parts['stem']}"
        if key in found:
            raise ValueError(f"{where}: {found[key].name} and {name} are the same frame")
        found[key] = Member(name, key, kind)
    return found
