"""Segments images on disk, into PNGs of train ids and overlays with colored classes."""

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
"""The output folders: PNGs of train ids, and photographs blended with their classes' colors."""

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
_OVERLAY_OPACITY = 0.55  # fraction of the class color; the rest is the photograph


def find_images(paths: Iterable[Path]) -> dict[str, Path]:
    """Find the PNGs and JPEGs among paths, and below those that are folders.

    Args:
        paths: of images, and of folders, which are searched recursively.

    Returns:
        Output name (without suffix) -> image, sorted by name.

    Raises:
        ValueError: naming each path that is missing, is not an image or contains none, and images
            with the same output name.
    """
    images: dict[str, Path] = {}
    problems = []
    for path in paths:
        files = _list_images(path) if path.is_dir() else [path]
        if problem := _describe_problem(path, files):
            problems.append(problem)
            continue
        root = path if path.is_dir() else path.parent
        for file in files:
            name = file.relative_to(root).with_suffix("").as_posix()
            if name in images:
                problems.append(f"{images[name]} and {file} would both be written as {name}.png")
            images[name] = file
    raise_problems(problems, "predict", "with the paths of the images")
    return dict(sorted(images.items()))


def predict(
    model: TrainedModel,
    images: dict[str, Path],
    out: Path,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Write train ids and overlay of each image, each file whole or not at all.

    Args:
        model: to predict with.
        images: as `find_images` returns them.
        out: the folder to write below.
        progress: called with the number of images done and in total.

    Returns:
        A line for each image that could not be read or segmented; the others are written.
    """
    problems = []
    for done, (name, path) in enumerate(images.items(), start=1):
        try:
            photograph = decode_photograph(path.read_bytes(), str(path))
            classes = model.predictor.predict_classes(photograph)
        except (ValueError, OSError) as error:
            problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
        else:
            _save(classes, out / LABELS / f"{name}.png")
            _save(draw_overlay(photograph, classes), out / OVERLAYS / f"{name}.png")
        progress(done, len(images))
    return problems


def draw_overlay(photograph: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend a photograph with its classes' colors.

    Args:
        photograph: (h, w, 3) uint8 RGB.
        classes: (h, w) uint8, a train id per pixel.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    blended = (1 - _OVERLAY_OPACITY) * photograph + _OVERLAY_OPACITY * palette()[classes]
    return np.rint(blended).astype(np.uint8)


def _list_images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGE_SUFFIXES)


def _describe_problem(path: Path, images: list[Path]) -> str | None:
    suffixes = ", ".join(_IMAGE_SUFFIXES)
    if path.is_dir():
        return None if images else f"{path} contains no image ({suffixes})"
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        return (
            f"{path} is a video: extract its frames with `ffmpeg -i {path} frames/%06d.png`, and"
            " predict the folder frames"
        )
    if not path.is_file():
        return f"{path} does not exist"
    is_image = path.suffix.lower() in _IMAGE_SUFFIXES
    return None if is_image else f"{path} is not an image ({suffixes})"


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    with replacing(path) as part:
        # The smallest file is rarely worth twice the time.
        Image.fromarray(pixels).save(part, format="PNG", compress_level=3)
