"""Predict: a class per pixel of pictures on disk, as PNGs of train ids and as coloured overlays."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import raise_problems
from pipeline.serving.load import TrainedModel
from segformer.atomic import replacing
from segformer.cityscapes import palette
from segformer.images import decode_photograph

LABELS, OVERLAYS = "labels", "overlay"
"""The folders written: PNGs of train ids, and the photograph under its classes' colours."""

_SUFFIXES = (".png", ".jpg", ".jpeg")
_VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm")
_OVERLAY_OPACITY = 0.55  # of the overlay; the rest is the photograph


def find_images(paths: Iterable[Path]) -> dict[str, Path]:
    """Find the PNGs and JPEGs that are named, or lie in or below a folder that is.

    Returns:
        For each the name of what is written for it, without suffix, in order of name.

    Raises:
        ValueError: if a path is missing or no picture, there is none, or two would be written
            under one name.
    """
    found: dict[str, Path] = {}
    problems = []
    for path in paths:
        pictures = _list_images(path) if path.is_dir() else [path]
        if problem := _describe_problem(path, pictures):
            problems.append(problem)
            continue
        root = path if path.is_dir() else path.parent
        for picture in pictures:
            name = picture.relative_to(root).with_suffix("").as_posix()
            if name in found:
                problems.append(f"{found[name]} and {picture} would both be written as {name}.png")
            found[name] = picture
    raise_problems(problems, "predict", "with what is to be segmented")
    return dict(sorted(found.items()))


def predict(
    model: TrainedModel,
    images: dict[str, Path],
    out: Path,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Write train ids and overlay of every picture, each file whole or not at all.

    Args:
        model: to predict with.
        images: as `find_pictures` returns them.
        out: the folder to write below.
        progress: called with pictures done and pictures in all.

    Returns:
        A line for each picture that could not be read or segmented.
    """
    problems = []
    for done, (name, path) in enumerate(images.items(), start=1):
        try:
            photograph = decode_photograph(path.read_bytes(), str(path))
            classes = model.predictor.predict_classes(photograph)
        except (ValueError, OSError) as mistake:
            problems.append(str(mistake) if str(path) in str(mistake) else f"{path}: {mistake}")
        else:
            _save(classes, out / LABELS / f"{name}.png")
            _save(draw_overlay(photograph, classes), out / OVERLAYS / f"{name}.png")
        progress(done, len(images))
    return problems


def draw_overlay(photograph: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) RGB and (h, w) train ids -> (h, w, 3): the picture under its classes' colours."""
    mixed = (1 - _OVERLAY_OPACITY) * photograph + _OVERLAY_OPACITY * palette()[classes]
    return np.rint(mixed).astype(np.uint8)


def _list_images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)


def _describe_problem(path: Path, images: list[Path]) -> str | None:
    if path.is_dir():
        return None if images else f"{path} holds no {', '.join(_SUFFIXES)}"
    if path.suffix.lower() in _VIDEOS:
        return f"{path} is a video: `ffmpeg -i {path} frames/%06d.png`, then name the folder frames"
    if not path.is_file():
        return f"{path} does not exist"
    return None if path.suffix.lower() in _SUFFIXES else f"{path} is no {', '.join(_SUFFIXES)}"


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    with replacing(path) as part:
        # Seldom is the smallest file worth twice the time.
        Image.fromarray(pixels).save(part, format="PNG", compress_level=3)
