"""Segments films: decoding, network and encoding at the same time."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import name_file
from pipeline.formatting import format_count
from pipeline.serving.film_truth import FilmTruth, find_truth
from pipeline.serving.predict import LABELS, OVERLAYS
from pipeline.video.codecs import Codec
from pipeline.video.drawing import OverlayStyle
from pipeline.video.film_writer import FilmWriter
from pipeline.video.frames import FrameSource, VideoFrame
from pipeline.video.overlap import Progress, Timings, transform_frames
from pipeline.video.source import DEMO_VIDEO_FPS, open_sources
from pipeline.video.writer import SUFFIXES, open_writer
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from segformer.device import explain_out_of_memory
from segformer.inference.trained_model import TrainedModel
from segformer.metrics.confusion import confusion_matrix, mean_iou


@dataclass(frozen=True)
class FilmOptions:
    """What is written for each film.

    Attributes:
        style: how overlays are drawn.
        codec: of the film of overlays.
        has_labels: whether a lossless film of train ids is written beside.
        truth: zip or folder of label maps; None: those beside the source, if there are any.
    """

    style: OverlayStyle = field(default_factory=OverlayStyle)
    codec: Codec = "h264"
    has_labels: bool = False
    truth: Path | None = None


@dataclass
class FilmScores:
    """Counts over the frames of a film.

    Attributes:
        num_frames: frames counted.
        num_labeled: those with labels.
        confusion: (k, k) int64 over the labeled frames.
    """

    num_frames: int = 0
    num_labeled: int = 0
    confusion: torch.Tensor = field(
        default_factory=lambda: torch.zeros((NUM_CLASSES, NUM_CLASSES), dtype=torch.int64)
    )
    _changes: int = 0
    _previous: NDArray[np.uint8] | None = None

    def add(self, classes: NDArray[np.uint8], truth: NDArray[np.uint8] | None) -> None:
        """Count a frame: (h, w) uint8 train ids, and the true ones if known."""
        if self._previous is not None:
            self._changes += int(np.count_nonzero(classes != self._previous))
        self._previous = classes
        self.num_frames += 1
        if truth is not None:
            predicted, target = (torch.tensor(ids[None]) for ids in (classes, truth))
            self.confusion += confusion_matrix(predicted, target, NUM_CLASSES)
            self.num_labeled += 1

    @property
    def change_share(self) -> float | None:
        """Share of pixels, 0..1, whose class differs from the frame before; None for one frame."""
        if self._previous is None or self.num_frames < 2:
            return None
        return self._changes / ((self.num_frames - 1) * self._previous.size)

    @property
    def miou(self) -> float | None:
        """Mean IoU, 0..1, over all labeled frames together; None without labels."""
        return float(mean_iou(self.confusion)) if self.num_labeled else None


@dataclass(frozen=True)
class FilmResult:
    """A film that was written.

    Attributes:
        path: the film of overlays.
        scores: counts over its frames.
        timings: how long its parts took.
        problems: sentences: why the film is shorter than its source.
        notes: sentences: why it has less sound than its source.
    """

    path: Path
    scores: FilmScores
    timings: Timings
    problems: list[str]
    notes: list[str]

    def describe(self) -> str:
        """The result in words: frames, speed, steadiness, mIoU, waiting."""
        rate = self.timings.num_frames / self.timings.seconds
        parts = [f"{format_count(self.scores.num_frames, 'frame')} at {rate:.1f} frames/s"]
        if self.scores.change_share is not None:
            parts.append(
                f"{self.scores.change_share:.1%} of the pixels change class from one frame to the"
                " next"
            )
        if self.scores.miou is not None:
            labeled = format_count(self.scores.num_labeled, "labeled frame")
            parts.append(f"mIoU {self.scores.miou:.1%} over {labeled}")
        names = {"decode": "decoding", "process": "network", "write": "drawing and encoding"}
        waiting = ", ".join(
            f"{name} {self.timings.waiting_share(part):.0%}" for part, name in names.items()
        )
        return f"{self.path}: {'; '.join(parts)}; time spent waiting: {waiting}"


def open_films(
    films: Mapping[str, Path],
    *,
    start_s: Fraction | None = None,
    end_s: Fraction | None = None,
    every: int = 1,
    fps: Fraction = DEMO_VIDEO_FPS,
) -> tuple[list[FrameSource], list[str]]:
    """Open films and zips of pictures, each sequence of a zip as a film.

    Args:
        films: output name -> film or zip.
        start_s: as in `open_sources`, like all others.
        end_s: seconds.
        every: frames.
        fps: frames per second of pictures.

    Returns:
        The films, and a line for each that cannot be opened or would replace another.
    """
    sources: dict[str, FrameSource] = {}
    problems = []
    for name, path in films.items():
        try:
            opened = open_sources(path, start_s=start_s, end_s=end_s, every=every, fps=fps)
        except (ValueError, OSError) as error:
            problems.append(name_file(error, path))
            continue
        for source in opened:
            source.name = PurePosixPath(name).with_name(source.name).as_posix()
            if source.name in sources:
                other = sources[source.name].path
                problems.append(f"{other} and {path} would both be written as {source.name}")
            else:
                sources[source.name] = source
    return list(sources.values()), problems


def predict_film(
    model: TrainedModel,
    source: FrameSource,
    out: Path,
    options: FilmOptions,
    progress: Progress | None = None,
) -> FilmResult:
    """Write a film of overlays, and of train ids if requested, each whole or not at all.

    If ctrl-C or SIGTERM interrupts it, both hold the frames done until then.

    Args:
        model: to predict with.
        source: the film.
        out: the folder to write below: `overlay/NAME.mp4`, and `labels/NAME.mkv` in FFV1 gray.
        options: what is written.
        progress: called after each frame.

    Raises:
        ValueError: if a frame is too small for the network, the memory too small for a frame, the
            disk full, the encoder missing, or the truth does not fit.
    """
    scores = FilmScores()
    suffix = SUFFIXES[options.codec]
    path = out / OVERLAYS / f"{source.name}{suffix}"
    rows = source.rows + options.style.legend_rows(source.columns)
    with ExitStack() as stack:
        truth = _open_truth(model, source, options.truth)
        if truth:
            stack.enter_context(truth)
        overlays: FilmWriter = stack.enter_context(
            open_writer(path, source, rows=rows, columns=source.columns, codec=options.codec)
        )
        labels: FilmWriter | None = None
        if options.has_labels:
            labels_path = out / LABELS / f"{source.name}{SUFFIXES['ffv1']}"
            size = {"rows": source.rows, "columns": source.columns}
            labels = stack.enter_context(open_writer(labels_path, source, **size, codec="ffv1"))

        def process(frame: VideoFrame) -> tuple[VideoFrame, NDArray[np.uint8]]:
            with explain_out_of_memory(source.path, frame.image.shape[:2]):
                return frame, model.predictor.predict_classes(frame.image)

        def write(result: tuple[VideoFrame, NDArray[np.uint8]]) -> None:
            frame, classes = result
            overlays.write(options.style.draw(frame.image, classes), frame.time_s)
            if labels:
                labels.write(classes, frame.time_s)
            scores.add(classes, truth.read(frame.label) if truth else None)

        timings = transform_frames(source, process, write, progress)
    problems = [source.damage] if source.damage else []
    return FilmResult(path, scores, timings, problems, overlays.notes)


def _open_truth(model: TrainedModel, source: FrameSource, path: Path | None) -> FilmTruth | None:
    """Open the labels that the user names, or those beside the pictures."""
    if path is None:
        beside = find_truth(source.path)
        if beside is None or model.classes != list(CLASS_NAMES):
            return None
        try:
            return FilmTruth(beside, source)
        except ValueError:  # nobody asked for them
            return None
    if model.classes != list(CLASS_NAMES):
        raise ValueError(
            f"--truth {path}: {model.name} predicts other classes than the {NUM_CLASSES} of"
            " Cityscapes; leave --truth out"
        )
    return FilmTruth(path, source)
