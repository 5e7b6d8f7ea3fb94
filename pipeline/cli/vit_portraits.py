"""Measures the heads of a plain ViT on the pictures and films that `explain` draws."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from pipeline.cli import progress
from pipeline.download.byte_progress import ProgressCallback
from pipeline.explain.cls_explainer import ClsExplainer
from pipeline.explain.portraits.plain_vit import MAX_FRAMES, measure_cls_heads, write_portraits
from pipeline.serving.film_truth import FilmTruth
from pipeline.serving.load import load_model
from pipeline.video.frames import FrameSource, VideoFrame
from segformer.images import decode_photograph

FOLDER = "portraits"
"""The folder of the tables and the figure, below that of the drawings."""

_LabeledFrame = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(H, W, 3) uint8 RGB, and (H, W) uint8 train ids."""


def measure_heads(
    explainer: ClsExplainer,
    images: Mapping[str, Path],
    films: Sequence[FrameSource],
    out: Path,
    *,
    classes_from: Path | str,
) -> None:
    """Write the portraits of all heads, and print the main finding.

    Args:
        explainer: of the plain ViT.
        images: output name -> picture; left out where there are labels.
        films: films and zips of pictures.
        out: the folder of the drawings.
        classes_from: labels, zip or folder, of the pictures of zips; or the reference of a model
            whose predictions are used.

    Raises:
        ValueError: if labels, the model or all frames are missing or damaged.
    """
    if isinstance(classes_from, Path):
        frames, label = _read_labeled(films, classes_from), str(classes_from)
    else:
        frames = _predict(list(images.values()), films, classes_from)
        label = f"predictions of {classes_from}"
    with progress.show_progress("measure heads", "frames") as advance:
        total = len(images) + sum(film.num_frames or MAX_FRAMES for film in films)
        frames = _report(frames, advance, min(total, MAX_FRAMES))
        portraits = measure_cls_heads(explainer, frames)
    folder = out / FOLDER
    sentence = write_portraits(portraits, name=explainer.name, classes_from=label, out=folder)
    typer.echo(f"{sentence} ({portraits.num_frames} frames; {folder})")


def _predict(
    images: Sequence[Path], films: Sequence[FrameSource], reference: str
) -> Iterator[_LabeledFrame]:
    predictor = load_model(reference).predictor
    share = MAX_FRAMES // (len(films) + bool(images)) or 1
    spread = np.linspace(0, len(images) - 1, min(share, len(images))).round().astype(int)
    for path in (images[i] for i in spread.tolist()):
        photograph = decode_photograph(path.read_bytes(), str(path))
        yield photograph, predictor.predict_classes(photograph)
    for film in films:
        for frame in _spread_film(film, share):
            yield frame.image, predictor.predict_classes(frame.image)


def _read_labeled(films: Sequence[FrameSource], labels: Path) -> Iterator[_LabeledFrame]:
    if not films:
        raise ValueError(
            f"--truth {labels}: labels are found for zips of pictures only; for other inputs give"
            " --classes-from MODEL, whose predictions are used"
        )
    for film in films:
        with FilmTruth(labels, film) as truth:
            for frame in _spread_film(film, MAX_FRAMES // len(films) or 1):
                classes = truth.read(frame.label)
                if classes is not None:
                    yield frame.image, classes


def _spread_film(film: FrameSource, number: int) -> Iterator[VideoFrame]:
    """Yield at most `number` frames; every tenth, from the first, where the length is unknown."""
    step = 10 if film.num_frames is None else max(-(-film.num_frames // number), 1)
    return islice(iter(film), 0, step * number, step)


def _report(
    frames: Iterator[_LabeledFrame], advance: ProgressCallback, total: int
) -> Iterator[_LabeledFrame]:
    for done, frame in enumerate(frames, start=1):
        yield frame
        advance(done, total)
