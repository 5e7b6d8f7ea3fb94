"""The official packages of Cityscapes that this project reads: names, sizes, md5 sums, paths."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segformer.cityscapes import TRAIN_EXTRA

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Package:
    """An official zip.

    Attributes:
        name: file name on the site.
        md5: of the zip, 32 hex digits.
        size: bytes; None if it is not known.
        tree: the folder of its images after extraction.
        excludes: a folder below `tree` that belongs to another package.
        is_extra: whether it belongs to `train_extra`, and is stored in a folder of that name.
    """

    name: str
    md5: str
    size: int | None
    tree: str
    excludes: str | None = None
    is_extra: bool = False

    def path_in(self, out: Path) -> Path:
        """The path of the zip below the stage's folder."""
        return (out / TRAIN_EXTRA if self.is_extra else out) / self.name


# Sums and sizes agree in many public repositories that list them; the exact sizes of the two extra
# packages (44 and 1.3 GB) are not published there.
IMAGES = Package(
    "leftImg8bit_trainvaltest.zip",
    "0a6e97e94b616a514066c9e2adb0c97f",
    11_592_327_197,
    "leftImg8bit",
    excludes=TRAIN_EXTRA,
)
LABELS = Package(
    "gtFine_trainvaltest.zip", "4237c19de34c8a376e9ba46b495d6f66", 252_567_705, "gtFine"
)
EXTRA_IMAGES = Package(
    "leftImg8bit_trainextra.zip",
    "9167a331a158ce3e8989e166c95d56d4",
    None,
    f"leftImg8bit/{TRAIN_EXTRA}",
    is_extra=True,
)
COARSE_LABELS = Package(
    "gtCoarse.zip", "1c7b95c84b1d36cc59a9194d8e5b989f", None, "gtCoarse", is_extra=True
)
OFFICIAL_PACKAGES = (IMAGES, LABELS, EXTRA_IMAGES, COARSE_LABELS)


def select_packages(
    train_extra: bool, packages: tuple[Package, ...] = OFFICIAL_PACKAGES
) -> tuple[Package, ...]:
    """The packages to download, with those of `train_extra` or without."""
    return tuple(package for package in packages if train_extra or not package.is_extra)


def compute_md5(path: Path, on_read: Callable[[int], None] = lambda _: None) -> str:
    """The md5 of a file, 32 hex digits; `on_read` is called with the bytes of each chunk read."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            on_read(len(chunk))
    return digest.hexdigest()
