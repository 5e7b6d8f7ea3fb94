"""Pack: decode and resize every frame once, into arrays that training maps into memory."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.archive import Archive, train_ids_name
from pipeline.disk import demand_room, telling_if_full
from pipeline.frame_tables import keys_by_split
from pipeline.packages import EXTRA_IMAGES
from pipeline.parallel import in_order
from pipeline.problems import refuse
from pipeline.section import NetworkSize, Section
from pipeline.splits import TRAIN, TRAIN_EXTRA, TRAINED_ON, VAL
from segformer.atomic import replacing
from segformer.packing import bytes_needed, put, reserve
from segformer.resize import resize_image, resize_labels

_OR_ELSE = "lower pack.size"


class Pack(Section):
    """What the packed frames are like."""

    size: NetworkSize


def run(
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
        telling_if_full(out.parent, whose="pack", or_else=_OR_ELSE),
        replacing(out) as whole,
    ):
        photographs = dict.fromkeys((TRAIN, VAL), opened.enter_context(Archive(images)))
        if splits[TRAIN_EXTRA]:
            photographs[TRAIN_EXTRA] = opened.enter_context(Archive(_extra_images(extra)))
        label_maps = opened.enter_context(Archive(labels))
        whole.mkdir()
        jobs = _reserve(splits, whole, params.size)
        work = _Packing(photographs, label_maps, params.size)
        with in_order(work, jobs, processes) as packed:
            problems: list[str] = []
            for done, found in enumerate(packed, start=1):
                problems += found
                progress(done, len(jobs))
        refuse(problems, "pack", "in what is packed; mend them and repeat")


@dataclass(frozen=True)
class _Job:
    """A frame and its place."""

    key: str
    split: str
    folder: Path
    index: int


@dataclass(frozen=True)
class _Packing:
    """Brings frames to size and writes them, or says what is wrong with them.

    May be handed to other processes.
    """

    photographs: dict[str, Archive]
    label_maps: Archive
    size: tuple[int, int]

    def __call__(self, job: _Job) -> list[str]:
        try:
            photograph = self.photographs[job.split].photograph(job.key)
            labels = self.label_maps.open_labels(train_ids_name(job.key))
        except ValueError as problem:
            return [str(problem)]
        image = resize_image(photograph, self.size)
        put(job.folder, job.index, image, resize_labels(labels, self.size))
        return []


def _read_splits(frames: Path) -> dict[str, list[str]]:
    """The keys of each split that training sees; of train_extra there may be none."""
    keys = keys_by_split(frames)
    empty = [split for split in (TRAIN, VAL) if split not in keys]
    if empty:
        raise ValueError(f"{frames}: no frame is of the split {' or '.join(empty)}; repeat remap")
    return {split: keys.get(split, []) for split in (TRAIN, TRAIN_EXTRA, VAL)}


def _extra_images(extra: Path | None) -> Path:
    if extra is None or not (extra / EXTRA_IMAGES.name).exists():
        raise ValueError(
            f"pack: there are frames of train_extra, but no {EXTRA_IMAGES.name} in"
            f" {extra or 'a folder for it'}: set download.train_extra to true, and repeat download"
        )
    return extra / EXTRA_IMAGES.name


def _reserve(splits: dict[str, list[str]], whole: Path, size: tuple[int, int]) -> list[_Job]:
    """Take the disk space for all frames, if there is as much, and say where each goes."""
    number = sum(map(len, splits.values()))
    whose = f"pack: {number} frames of {size[0]} x {size[1]}"
    demand_room(whole.parent, bytes_needed(number, size), whose=whose, or_else=_OR_ELSE)
    jobs = []
    for name, parts in ((TRAIN, TRAINED_ON), (VAL, (VAL,))):
        frames = [(key, split) for split in parts for key in splits[split]]
        reserve(whole / name, [key for key, _ in frames], size)
        jobs += [_Job(*frame, whole / name, index) for index, frame in enumerate(frames)]
    return jobs
