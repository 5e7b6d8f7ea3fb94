"""Decode and resize every frame once, into arrays that training maps into memory."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset.archive import Archive, train_ids_name
from pipeline.dataset.packages import EXTRA_IMAGES
from pipeline.dataset.splits import TRAIN, TRAINING_SPLITS, VAL
from pipeline.dataset.tables import read_keys_by_split
from pipeline.disk import explain_disk_full, require_space
from pipeline.errors import raise_problems
from pipeline.parallel import ordered_map
from pipeline.params.pack import Pack
from segformer.atomic import replacing
from segformer.cityscapes import TRAIN_EXTRA
from segformer.data.packing import allocate, bytes_needed, write_frame
from segformer.data.resize import resize_image, resize_labels

_DISK_FULL_REMEDY = "lower pack.size"


def pack_frames(
    params: Pack,
    *,
    images: Path,
    labels: Path,
    frames: Path,
    extra: Path | None = None,
    out: Path,
    progress: Callable[[int, int], None],
    processes: int | None = None,
) -> None:
    """Write `train/` and `val/` into `out`, each with images.npy, labels.npy and frames.csv.

    Until the last frame is written, the folder has the name of `out` with `.part` added. Memory
    holds one frame per process, whatever the size of the data set. Frames of the split test are
    left out, since training never reads them; those of train_extra follow the others in `train/`.

    Args:
        params: the section `pack`.
        images: the leftImg8bit zip.
        labels: labels.zip of `remap`.
        frames: frames.csv of `remap`.
        extra: the folder with the zip of `train_extra` photographs, if `frames` has such frames.
        out: where to write.
        progress: called with frames done and frames in all.
        processes: number of worker processes, without effect on the result; None: chosen as in
            pipeline.parallel.ordered_map.

    Raises:
        ValueError: naming every file that is missing or cannot be decoded, up to a limit; or if
            the disk is too small.
    """
    splits = _read_splits(frames)
    with (
        ExitStack() as stack,
        explain_disk_full(out.parent, label="pack", remedy=_DISK_FULL_REMEDY),
        replacing(out) as folder,
    ):
        photographs = dict.fromkeys((TRAIN, VAL), stack.enter_context(Archive(images)))
        if splits[TRAIN_EXTRA]:
            photographs[TRAIN_EXTRA] = stack.enter_context(Archive(_find_extra_images(extra)))
        label_maps = stack.enter_context(Archive(labels))
        folder.mkdir()
        jobs = _reserve_space(splits, folder, params.size)
        packer = _FramePacker(photographs, label_maps, params.size)
        problems: list[str] = []
        with ordered_map(packer, jobs, processes) as results:
            for done, frame_problems in enumerate(results, start=1):
                problems += frame_problems
                progress(done, len(jobs))
        raise_problems(problems, "pack", "in the frames; fix them and repeat pack")


@dataclass(frozen=True)
class _PackingJob:
    """A frame, and where it is written: row `index` of the arrays in `folder`."""

    key: str
    split: str
    folder: Path
    index: int


@dataclass(frozen=True)
class _FramePacker:
    """Resizes and writes one frame; returns its problems. Can be pickled for worker processes."""

    photographs: dict[str, Archive]
    label_maps: Archive
    size: tuple[int, int]

    def __call__(self, job: _PackingJob) -> list[str]:
        try:
            photograph = self.photographs[job.split].open_photograph(job.key)
            labels = self.label_maps.open_labels(train_ids_name(job.key))
        except ValueError as error:
            return [str(error)]
        image = resize_image(photograph, self.size)
        write_frame(job.folder, job.index, image, resize_labels(labels, self.size))
        return []


def _read_splits(frames: Path) -> dict[str, list[str]]:
    """Read the keys of each split that training uses; train_extra may be empty."""
    keys = read_keys_by_split(frames)
    empty = [split for split in (TRAIN, VAL) if split not in keys]
    if empty:
        raise ValueError(
            f"{frames}: no frame in the split {' or '.join(empty)}; run `dvc repro --force remap`"
        )
    return {split: keys.get(split, []) for split in (TRAIN, TRAIN_EXTRA, VAL)}


def _find_extra_images(extra: Path | None) -> Path:
    if extra is None or not (extra / EXTRA_IMAGES.name).exists():
        raise ValueError(
            f"pack: {extra or 'the folder train_extra'} has no {EXTRA_IMAGES.name}, but there are"
            " train_extra frames; set download.train_extra to true and repeat download"
        )
    return extra / EXTRA_IMAGES.name


def _reserve_space(
    splits: dict[str, list[str]], folder: Path, size: tuple[int, int]
) -> list[_PackingJob]:
    """Allocate the disk space for all frames, and return where each is written."""
    num_frames = sum(map(len, splits.values()))
    label = f"pack: {num_frames} frames of {size[0]} x {size[1]}"
    require_space(
        folder.parent, bytes_needed(num_frames, size), label=label, remedy=_DISK_FULL_REMEDY
    )
    jobs = []
    for name, parts in ((TRAIN, TRAINING_SPLITS), (VAL, (VAL,))):
        frames = [(key, split) for split in parts for key in splits[split]]
        allocate(folder / name, [key for key, _ in frames], size)
        jobs += [_PackingJob(*frame, folder / name, index) for index, frame in enumerate(frames)]
    return jobs
