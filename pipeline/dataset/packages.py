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
        excludes: folders below `tree` that belong to other packages.
        option: the parameter of `download` that adds it, `train_extra` or `demo_video`, and the
            folder below the stage's where it is stored; None for what is always needed.
    """

    name: str
    md5: str
    size: int | None
    tree: str
    excludes: tuple[str, ...] = ()
    option: str | None = None

    def path_in(self, out: Path) -> Path:
        """The path of the zip below the stage's folder."""
        return (out / self.option if self.option else out) / self.name


DEMO_VIDEO = "demo_video"
"""The parameter and the folder of the demo video."""

DEMO_VIDEO_SPLIT = "demoVideo"
"""The folder of the demo video's frames in its zip."""

# Sums and sizes agree in many public repositories that list them; the exact sizes of the optional
# packages (44, 1.3 and 6.6 GB) are not published there.
IMAGES = Package(
    "leftImg8bit_trainvaltest.zip",
    "0a6e97e94b616a514066c9e2adb0c97f",
    11_592_327_197,
    "leftImg8bit",
    excludes=(TRAIN_EXTRA, DEMO_VIDEO_SPLIT),
)
LABELS = Package(
    "gtFine_trainvaltest.zip",
    "4237c19de34c8a376e9ba46b495d6f66",
    252_567_705,
    "gtFine",
    excludes=(DEMO_VIDEO_SPLIT,),
)
EXTRA_IMAGES = Package(
    "leftImg8bit_trainextra.zip",
    "9167a331a158ce3e8989e166c95d56d4",
    None,
    f"leftImg8bit/{TRAIN_EXTRA}",
    option=TRAIN_EXTRA,
)
COARSE_LABELS = Package(
    "gtCoarse.zip", "1c7b95c84b1d36cc59a9194d8e5b989f", None, "gtCoarse", option=TRAIN_EXTRA
)
DEMO_VIDEO_IMAGES = Package(
    "leftImg8bit_demoVideo.zip",
    "21ae5fb1a3393b3c3b57503dd585ef09",
    None,
    f"leftImg8bit/{DEMO_VIDEO_SPLIT}",
    option=DEMO_VIDEO,
)
OFFICIAL_PACKAGES = (IMAGES, LABELS, EXTRA_IMAGES, COARSE_LABELS, DEMO_VIDEO_IMAGES)


def select_packages(
    packages: tuple[Package, ...] = OFFICIAL_PACKAGES,
    *,
    train_extra: bool = False,
    demo_video: bool = False,
) -> tuple[Package, ...]:
    """The packages to download, with those of `train_extra` and `demo_video` or without."""
    requested = {None: True, TRAIN_EXTRA: train_extra, DEMO_VIDEO: demo_video}
    return tuple(package for package in packages if requested[package.option])


def compute_md5(path: Path, on_read: Callable[[int], None] = lambda _: None) -> str:
    """The md5 of a file, 32 hex digits; `on_read` is called with the bytes of each chunk read."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            on_read(len(chunk))
    return digest.hexdigest()
