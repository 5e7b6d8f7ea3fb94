"""Pack: decode and resize every frame once, into arrays that training maps into memory."""

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

    All or nothing: until the last frame is written, the folder is called `out` with `.part` added.
    Memory holds one frame per process, whatever the size of the set. Frames of the split test are
    left out, since training never sees them; those of train_extra follow the others in `train/`.

    Args:
        params: the section `pack`.
        images: the leftImg8bit zip.
        labels: labels.zip of `remap`.
        frames: frames.csv of `remap`.
        extra: the folder with the photographs' zip of `train_extra`, if `frames` has such frames.
        out: where to write.
        progress: called with frames done and frames in all.
        processes: how many work; None: as in pipeline.parallel. They change nothing in the result.

    Raises:
        ValueError: naming every file that is missing or cannot be decoded, up to a limit; if the
            disk is too full.
    """
    splits = _read_splits(frames)
    with (
        ExitStack() as opened,
        explain_disk_full(out.parent, label="pack", remedy=_DISK_FULL_REMEDY),
        replacing(out) as whole,
    ):
        photographs = dict.fromkeys((TRAIN, VAL), opened.enter_context(Archive(images)))
        if splits[TRAIN_EXTRA]:
            photographs[TRAIN_EXTRA] = opened.enter_context(Archive(_find_extra_images(extra)))
        label_maps = opened.enter_context(Archive(labels))
        whole.mkdir()
        jobs = _reserve_space(splits, whole, params.size)
        work = _FramePacker(photographs, label_maps, params.size)
        with ordered_map(work, jobs, processes) as packed:
            problems: list[str] = []
            for done, found in enumerate(packed, start=1):
                problems += found
                progress(done, len(jobs))
        raise_problems(problems, "pack", "in what is packed; mend them and repeat")


@dataclass(frozen=True)
class _PackingJob:
    """A frame and its place."""

    key: str
    split: str
    folder: Path
    index: int


@dataclass(frozen=True)
class _FramePacker:
    """Brings frames to size and writes them, or says what is wrong with them.

    May be handed to other processes.
    """

    photographs: dict[str, Archive]
    label_maps: Archive
    size: tuple[int, int]

    def __call__(self, job: _PackingJob) -> list[str]:
        try:
            photograph = self.photographs[job.split].open_photograph(job.key)
            labels = self.label_maps.open_labels(train_ids_name(job.key))
        except ValueError as problem:
            return [str(problem)]
        image = resize_image(photograph, self.size)
        write_frame(job.folder, job.index, image, resize_labels(labels, self.size))
        return []


def _read_splits(frames: Path) -> dict[str, list[str]]:
    """The keys of each split that training sees; of train_extra there may be none."""
    keys = read_keys_by_split(frames)
    empty = [split for split in (TRAIN, VAL) if split not in keys]
    if empty:
        raise ValueError(f"{frames}: no frame is of the split {' or '.join(empty)}; repeat remap")
    return {split: keys.get(split, []) for split in (TRAIN, TRAIN_EXTRA, VAL)}


def _find_extra_images(extra: Path | None) -> Path:
    if extra is None or not (extra / EXTRA_IMAGES.name).exists():
        raise ValueError(
            f"pack: there are frames of train_extra, but no {EXTRA_IMAGES.name} in"
            f" {extra or 'a folder for it'}: set download.train_extra to true, and repeat download"
        )
    return extra / EXTRA_IMAGES.name


def _reserve_space(
    splits: dict[str, list[str]], folder: Path, size: tuple[int, int]
) -> list[_PackingJob]:
    """Take the disk space for all frames, if there is as much, and say where each goes."""
    number = sum(map(len, splits.values()))
    whose = f"pack: {number} frames of {size[0]} x {size[1]}"
    require_space(folder.parent, bytes_needed(number, size), label=whose, remedy=_DISK_FULL_REMEDY)
    jobs = []
    for name, parts in ((TRAIN, TRAINING_SPLITS), (VAL, (VAL,))):
        frames = [(key, split) for split in parts for key in splits[split]]
        allocate(folder / name, [key for key, _ in frames], size)
        jobs += [_PackingJob(*frame, folder / name, index) for index, frame in enumerate(frames)]
    return jobs
