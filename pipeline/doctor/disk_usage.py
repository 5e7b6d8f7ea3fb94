"""Estimates from the parameters how many bytes a full run writes to the disk."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.dataset import official_counts
from pipeline.dataset.archive import IMAGE, Archive, index_by_frame
from pipeline.dataset.packages import (
    COARSE_LABELS,
    DEMO_VIDEO_IMAGES,
    EXTRA_IMAGES,
    IMAGES,
    Package,
    select_packages,
)
from pipeline.disk import can_hard_link
from pipeline.download import from_folder
from pipeline.download.from_folder import is_zip
from pipeline.download.from_site import package_partial_path, seems_complete
from pipeline.params.download import Download
from pipeline.params.load import Config
from pipeline.paths import project_root
from pipeline.stages.download import has_synthetic_data
from segformer.data.packing import bytes_needed

_SYNTHETIC_BYTES_PER_PIXEL = 4  # upper bound for a synthetic frame: RGB PNG and label maps
_REMAPPED_BYTES_PER_PIXEL = 0.1  # of a train id PNG; 0.03 in the demo
_OFFICIAL_FRAMES = {
    IMAGES: sum(sum(cities.values()) for cities in official_counts.OFFICIAL_FRAMES.values()),
    EXTRA_IMAGES: official_counts.EXTRA_FRAMES,
}
_OPTIONAL_BYTES = {
    EXTRA_IMAGES: 44 * 10**9,
    COARSE_LABELS: 13 * 10**8,
    DEMO_VIDEO_IMAGES: 66 * 10**8,
}  # bytes, approximate
_NUM_PARAMETERS = {
    "b0": 3.7e6,
    "b1": 13.7e6,
    "b2": 27.4e6,
    "b3": 47.2e6,
    "b4": 64.0e6,
    "b5": 84.6e6,
}
"""With the published decoder width (arXiv:2105.15203, table 1); building one takes seconds."""
_NUM_COPIES = 2  # of each model: the stage's output and MLflow's artifact


def estimate_bytes(settings: Config, *, out: Path | None) -> dict[str, int]:
    """Return an upper estimate of the bytes that a full run writes, by purpose.

    Args:
        settings: the parameters.
        out: output folder of `download`, whose files need not be written again; None for none.

    Raises:
        ValueError: if the source folder of the data has files that `download` rejects, or a
            truncated zip.
        OSError: if the source folder cannot be read.
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
    """Return bytes still to write, frames in `used_packages`, and pixels per frame."""
    if download.source == "synthetic":
        frames = download.synthetic.train + download.synthetic.val
        pixels = download.synthetic.size[0] * download.synthetic.size[1]
        exists = out is not None and has_synthetic_data(download.synthetic, out)
        drawn = frames + download.synthetic.drive
        return (0 if exists else drawn * pixels * _SYNTHETIC_BYTES_PER_PIXEL), frames, pixels
    pixels = official_counts.FRAME_PIXELS
    packages = select_packages(train_extra=download.train_extra, demo_video=download.demo_video)
    if download.source == "folder":
        folder = project_root() / str(download.folder)
        sources = from_folder.find_packages(folder, packages)
        if all(sources.values()):
            size = sum(_bytes_to_copy(package, files, out) for package, files in sources.items())
            frames = sum(
                _count_frames(package, sources.get(package, [])) for package in used_packages
            )
            return size, frames, pixels
    size = sum(_bytes_to_download(package, out) for package in packages)
    return size, sum(_OFFICIAL_FRAMES[package] for package in used_packages), pixels


def _bytes_to_download(package: Package, out: Path | None) -> int:
    size = package.size or _OPTIONAL_BYTES[package]
    if out is None:
        return size
    if seems_complete(package, out):
        return 0
    partial = package_partial_path(package, out)
    return max(0, size - (partial.stat().st_size if partial.is_file() else 0))


def _bytes_to_copy(package: Package, files: Sequence[Path], out: Path | None) -> int:
    """Return the bytes to write for a package in a folder: 0 if it is hard-linked or exists."""
    size = sum(file.stat().st_size for file in files)
    target = None if out is None else package.path_in(out)
    if target is not None and target.is_file():
        target_size = target.stat().st_size
        # The zip made of an extracted tree is a little larger than its files.
        if target_size == size or (target_size > size and not is_zip(package, files)):
            return 0
    is_linked = is_zip(package, files) and can_hard_link(files[0].resolve(), project_root())
    return 0 if is_linked else size


def _count_frames(package: Package, files: Sequence[Path]) -> int:
    """Count the training and validation frames; the official number if there are no files."""
    names = [file.as_posix() for file in files]
    if not files:
        return _OFFICIAL_FRAMES[package]
    if is_zip(package, files):
        with Archive(files[0]) as archive:
            names = archive.names()
    keys = index_by_frame(names, IMAGE, Path(package.name))
    return sum(not key.startswith("test/") for key in keys)
