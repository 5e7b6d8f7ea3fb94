"""Segments pictures on disk, into PNGs of train ids and overlays with colored classes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import name_file, raise_problems
from pipeline.video.drawing import OverlayStyle
from segformer.atomic import replacing
from segformer.device import explain_out_of_memory
from segformer.images import decode_photograph
from segformer.inference.trained_model import TrainedModel

LABELS, OVERLAYS = "labels", "overlay"
"""The output folders: PNGs of train ids, and photographs blended with their classes' colors."""

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".ogv", ".3gp"),
)
"""Of films below a folder; a file that is named itself may have any other."""


@dataclass(frozen=True)
class Inputs:
    """What is to be segmented.

    Attributes:
        images: output name, without suffix -> picture.
        films: output name, without suffix -> film, or zip of pictures.
    """

    images: dict[str, Path]
    films: dict[str, Path]


@dataclass(frozen=True)
class PictureOptions:
    """What is written for each picture.

    Attributes:
        style: how overlays are drawn.
        has_labels: whether train ids are written beside.
    """

    style: OverlayStyle = field(default_factory=OverlayStyle)
    has_labels: bool = True


def find_inputs(paths: Iterable[Path], command: str = "predict") -> Inputs:
    """Sort paths into pictures and films; folders are searched for both, recursively.

    Args:
        paths: of pictures (PNG, JPEG), films, zips of pictures, and folders.
        command: the name of the command, for messages.

    Returns:
        Both sorted by name.

    Raises:
        ValueError: naming each path that is missing or contains neither, and inputs with the same
            output name.
    """
    inputs = Inputs({}, {})
    problems = []
    for path in paths:
        if not path.exists():
            problems.append(f"{path} does not exist")
            continue
        files = _list_files(path) if path.is_dir() else [path]
        if not files:
            problems.append(f"{path} contains no picture ({', '.join(_IMAGE_SUFFIXES)}) or film")
        root = path if path.is_dir() else path.parent
        for file in files:
            is_image = file.suffix.lower() in _IMAGE_SUFFIXES
            group = inputs.images if is_image else inputs.films
            name = file.relative_to(root).with_suffix("").as_posix()
            if name in group:
                problems.append(f"{group[name]} and {file} would both be written as {name}")
            group[name] = file
    raise_problems(problems, command, "with the paths of the pictures and films")
    return Inputs(dict(sorted(inputs.images.items())), dict(sorted(inputs.films.items())))


def predict(
    model: TrainedModel,
    images: dict[str, Path],
    out: Path,
    progress: Callable[[int, int], None],
    options: PictureOptions | None = None,
) -> list[str]:
    """Write overlay and train ids of each picture, each file whole or not at all.

    Args:
        model: to predict with.
        images: output name -> picture.
        out: the folder to write below.
        progress: called with the number of pictures done and in total.
        options: what is written; None: the defaults.

    Returns:
        A line for each picture that could not be read or segmented; the others are written.
    """
    options = options or PictureOptions()
    problems = []
    for done, (name, path) in enumerate(images.items(), start=1):
        try:
            photograph = decode_photograph(path.read_bytes(), str(path))
            with explain_out_of_memory(path, photograph.shape[:2]):
                classes = model.predictor.predict_classes(photograph)
        except (ValueError, OSError) as error:
            problems.append(name_file(error, path))
        else:
            if options.has_labels:
                _save(classes, out / LABELS / f"{name}.png")
            _save(options.style.draw(photograph, classes), out / OVERLAYS / f"{name}.png")
        progress(done, len(images))
    return problems


def _list_files(folder: Path) -> list[Path]:
    suffixes = (*_IMAGE_SUFFIXES, *_VIDEO_SUFFIXES)
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    with replacing(path) as part:
        # The smallest file is rarely worth twice the time.
        Image.fromarray(pixels).save(part, format="PNG", compress_level=3)
