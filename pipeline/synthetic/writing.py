"""Write drawn frames as zips in the layout of the two official ones."""

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.parallel import ordered_map
from pipeline.synthetic.drive import open_drive
from pipeline.synthetic.scene import SyntheticFrame, draw_frame
from segformer.cityscapes import LABELS

CITIES = {
    "train": ("aachen", "bremen", "hamburg", "jena", "ulm"),
    "val": ("frankfurt", "lindau", "munster"),
}
"""Cities of the official splits, so that splits by city work with these frames."""

FIRST_SEQUENCE = 900_000
"""Higher than all real sequence numbers, so that no drawn frame has the name of a real one."""

DEMO_VIDEO, DRIVE = "demoVideo", "drive_00"
"""The folder of the official demo video, and our sequence in it; its own are stuttgart_00 to 02."""

_EPOCH = (2016, 4, 6, 0, 0, 0)  # Fixed, since a zip that tells the time is never the same twice.
_SNIPPET = 30  # Real snippets have 30 frames, of which the 20th, number 19, is annotated.


@dataclass(frozen=True)
class EncodedFrame:
    """The PNG files of one frame, by their names in each of the two zips."""

    image: dict[str, bytes]
    labels: dict[str, bytes]


def write(
    images_zip: Path,
    labels_zip: Path,
    *,
    train: int,
    val: int,
    size: tuple[int, int],
    seed: int,
    progress: Callable[[int, int], None],
    processes: int | None = None,
) -> None:
    """Draw frames and write them, whole or not at all, with the same bytes for the same seed.

    Args:
        images_zip: where the images go.
        labels_zip: where labelIds, instanceIds and color go.
        train: frames of the train split.
        val: frames of the val split, drawn from other seeds.
        size: rows and columns of every frame.
        seed: decides every frame together with its split and number, and nothing else does.
        progress: called with the frames done and the frames in all.
        processes: how many draw at once; all cores when None.

    Raises:
        ValueError: a negative count, no frame at all, or a frame that is too small.
    """
    if min(train, val) < 0 or train + val == 0:
        raise ValueError(f"synthetic: cannot draw {train} train and {val} val frames; ask for some")
    jobs = [("train", i) for i in range(train)] + [("val", i) for i in range(val)]
    draw = partial(_draw_and_encode, seed=seed, size=size)
    with ordered_map(draw, jobs, processes) as drawings:
        _write_zips((images_zip, labels_zip), drawings, lambda done: progress(done, len(jobs)))


def write_drive(
    images_zip: Path,
    labels_zip: Path,
    *,
    frames: int,
    size: tuple[int, int],
    seed: int,
    progress: Callable[[int, int], None],
    processes: int | None = None,
) -> None:
    """Draw a drive and write it in the layout of the official demo video, with its labels.

    Args:
        images_zip: where the images go, as in `leftImg8bit_demoVideo.zip`.
        labels_zip: where labelIds, instanceIds and color go; the official video has none.
        frames: how many; a longer drive begins with the frames of a shorter one.
        size: rows and columns of every frame.
        seed: decides the street and all that moves along it.
        progress: called with the frames done and the frames in all.
        processes: how many draw at once; all cores when None.

    Raises:
        ValueError: no frame at all, or frames that are too small.
    """
    if frames <= 0:
        raise ValueError(f"synthetic: cannot draw a drive of {frames} frames; ask for 1 or more")
    draw = partial(_draw_and_encode_drive, seed=seed, size=size)
    with ordered_map(draw, range(frames), processes) as drawings:
        _write_zips((images_zip, labels_zip), drawings, lambda done: progress(done, frames))


def _write_zips(
    paths: tuple[Path, Path], drawings: Iterable[EncodedFrame], report: Callable[[int], None]
) -> None:
    """Write images and labels, both whole or neither."""
    beside = [path.with_name(path.name + ".part") for path in paths]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            zipfile.ZipFile(beside[0], "w") as images,
            zipfile.ZipFile(beside[1], "w") as labels,
        ):
            for done, drawing in enumerate(drawings, 1):
                _add(images, drawing.image)
                _add(labels, drawing.labels)
                report(done)
        for part, path in zip(beside, paths, strict=True):
            part.replace(path)
    finally:
        for part in beside:
            part.unlink(missing_ok=True)


def draw_frame_number(
    split: str, number: int, *, seed: int, size: tuple[int, int]
) -> SyntheticFrame:
    """Draw the frame with a number in a split; it depends on the seed only, not on other frames."""
    rng = np.random.default_rng([seed, tuple(CITIES).index(split), number])
    return draw_frame(rng, size)


def encode_frame(frame: SyntheticFrame, split: str, number: int) -> EncodedFrame:
    """Encode a frame under the official names."""
    cities = CITIES[split]
    city = cities[number % len(cities)]
    sequence = FIRST_SEQUENCE + number // len(cities)
    return _encode(frame, f"{split}/{city}/{city}_{sequence:06}_{_SNIPPET - 11:06}")


def encode_drive_frame(frame: SyntheticFrame, number: int) -> EncodedFrame:
    """Encode a frame of a drive, counted from 0, under a name like those of the official video."""
    return _encode(frame, f"{DEMO_VIDEO}/{DRIVE}/{DRIVE}_000000_{number + 1:06}")


def _encode(frame: SyntheticFrame, key: str) -> EncodedFrame:
    truth = f"gtFine/{key}_gtFine"
    colors = np.array([(*label.color, 255) for label in LABELS], np.uint8)
    return EncodedFrame(
        image={f"leftImg8bit/{key}_leftImg8bit.png": _png(frame.image)},
        labels={
            f"{truth}_color.png": _png(colors[frame.label_ids]),
            f"{truth}_instanceIds.png": _png(frame.instance_ids),
            f"{truth}_labelIds.png": _png(frame.label_ids),
        },
    )


def _draw_and_encode(job: tuple[str, int], *, seed: int, size: tuple[int, int]) -> EncodedFrame:
    return encode_frame(draw_frame_number(*job, seed=seed, size=size), *job)


def _draw_and_encode_drive(number: int, *, seed: int, size: tuple[int, int]) -> EncodedFrame:
    return encode_drive_frame(open_drive(seed).draw_frame(number, size), number)


def _png(array: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        entry = zipfile.ZipInfo(name, _EPOCH)
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, content, zipfile.ZIP_STORED)
