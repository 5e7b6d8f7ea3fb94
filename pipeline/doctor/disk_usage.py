"""How much a whole run writes to the disk, guessed from the parameters before anything is there."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.dataset import official_counts
from pipeline.dataset.archive import IMAGE, Archive, index_by_frame
from pipeline.dataset.packages import COARSE_LABELS, EXTRA_IMAGES, IMAGES, Package, select_packages
from pipeline.disk import can_hard_link
from pipeline.download import from_folder
from pipeline.download.from_folder import is_zip
from pipeline.download.from_site import package_partial_path, seems_complete
from pipeline.params.download import Download
from pipeline.params.load import Config
from pipeline.paths import project_root
from pipeline.stages.download import has_synthetic_data
from segformer.data.packing import bytes_needed

_SYNTHETIC_BYTES_PER_PIXEL = (
    4  # bytes per pixel of a drawn frame, at most: a PNG in RGB, and its label maps
)
_REMAPPED_BYTES_PER_PIXEL = 0.1  # bytes per pixel of a train id PNG; 0.03 in the demo
_OFFICIAL_FRAMES = {
    IMAGES: sum(sum(cities.values()) for cities in official_counts.OFFICIAL_FRAMES.values()),
    EXTRA_IMAGES: official_counts.EXTRA_FRAMES,
}
_EXTRA_BYTES = {
    EXTRA_IMAGES: 44 * 10**9,
    COARSE_LABELS: 13 * 10**8,
}  # bytes; not known more exactly
_NUM_PARAMETERS = {
    "b0": 3.7e6,
    "b1": 13.7e6,
    "b2": 27.4e6,
    "b3": 47.2e6,
    "b4": 64.0e6,
    "b5": 84.6e6,
}
"""Of the published decoder width (arXiv:2105.15203, table 1); an instance would take seconds."""
_NUM_COPIES = 2  # of a model: the stage's and MLflow's


def estimate_bytes(settings: Config, *, out: Path | None) -> dict[str, int]:
    """Bytes by what they are for, more rather than less.

    Args:
        settings: the parameters.
        out: the folder of `download`, for what lies there already; None for nothing.

    Raises:
        ValueError: if the folder that the data is to be taken from holds what is refused, or half
            a zip.
        OSError: if it cannot be looked at.
    """
    used = [IMAGES, EXTRA_IMAGES] if settings.remap.train_extra else [IMAGES]
    raw, frames, pixels = _estimate_raw_data(settings.download, out, used)
    arms = len(settings.ablation.losses) * len(settings.ablation.seeds)
    return {
        "raw data": raw,
        "remapped labels": round(frames * pixels * _REMAPPED_BYTES_PER_PIXEL),
        "packed frames": bytes_needed(frames, settings.pack.size),
        "models": round(arms * _NUM_COPIES * 4 * _NUM_PARAMETERS[settings.train.variant]),
    }


def _estimate_raw_data(
    download: Download, out: Path | None, used_packages: Sequence[Package]
) -> tuple[int, int, int]:
    """Bytes still to be written, frames in the packages that are `used_packages`, and pixels of each."""
    if download.source == "synthetic":
        frames = download.synthetic.train + download.synthetic.val
        pixels = download.synthetic.size[0] * download.synthetic.size[1]
        is_here = out is not None and has_synthetic_data(download.synthetic, out)
        return (0 if is_here else frames * pixels * _SYNTHETIC_BYTES_PER_PIXEL), frames, pixels
    pixels = official_counts.FRAME_PIXELS
    asked_for = select_packages(download.train_extra)
    if download.source == "folder":
        folder = project_root() / str(download.folder)
        found = from_folder.find_packages(folder, asked_for)
        if all(found.values()):
            left = sum(_bytes_to_copy(package, files, out) for package, files in found.items())
            frames = sum(
                _count_frames(package, found.get(package, [])) for package in used_packages
            )
            return left, frames, pixels
    left = sum(_bytes_to_download(package, out) for package in asked_for)
    return left, sum(_OFFICIAL_FRAMES[package] for package in used_packages), pixels


def _bytes_to_download(package: Package, out: Path | None) -> int:
    size = package.size or _EXTRA_BYTES[package]
    if out is None:
        return size
    if seems_complete(package, out):
        return 0
    part = package_partial_path(package, out)
    return max(0, size - (part.stat().st_size if part.is_file() else 0))


def _bytes_to_copy(package: Package, files: Sequence[Path], out: Path | None) -> int:
    """Bytes that are written for a package of a folder: none if it is linked, or taken already."""
    size = sum(file.stat().st_size for file in files)
    here = None if out is None else package.path_in(out)
    if here is not None and here.is_file():
        taken = here.stat().st_size
        # What a tree is stored in is a little larger than its files.
        if taken == size or (taken > size and not is_zip(package, files)):
            return 0
    is_linked = is_zip(package, files) and can_hard_link(files[0].resolve(), project_root())
    return 0 if is_linked else size


def _count_frames(package: Package, files: Sequence[Path]) -> int:
    """How many frames there are to train and validate on; those of the official set if unknown."""
    names = [file.as_posix() for file in files]
    if not files:
        return _OFFICIAL_FRAMES[package]
    if is_zip(package, files):
        with Archive(files[0]) as archive:
            names = archive.names()
    keys = index_by_frame(names, IMAGE, Path(package.name))
    return sum(not key.startswith("test/") for key in keys)
