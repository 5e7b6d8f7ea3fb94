"""Draws explanations of films, every frame with the same colors for the same values."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.explain.drawing import DrawingOptions, Painter, choose_scale
from pipeline.explain.explainer import Explainer, Explanation
from pipeline.formatting import format_count
from pipeline.video.codecs import Codec
from pipeline.video.frames import FrameSource, VideoFrame
from pipeline.video.overlap import Progress, Timings, transform_frames
from pipeline.video.writer import SUFFIXES, open_writer
from segformer.device import explain_out_of_memory

NUM_SAMPLES = 8
"""Frames, spread over a film, that its color scale is fitted to."""


@dataclass(frozen=True)
class ExplainedFilm:
    """A film that was written.

    Attributes:
        path: of the film.
        limit: the end of its color scale.
        timings: how long its parts took.
        problems: sentences: why the film is shorter than its source.
        notes: sentences: why it has less sound than its source.
    """

    path: Path
    limit: float
    timings: Timings
    problems: list[str]
    notes: list[str]

    def describe(self) -> str:
        """The result in words."""
        frames = format_count(self.timings.num_frames, "frame")
        rate = self.timings.num_frames / self.timings.seconds
        return f"{self.path}: {frames} at {rate:.1f} frames/s; color scale to {self.limit:g}"


def draw_film(
    explainer: Explainer,
    source: FrameSource,
    out: Path,
    options: DrawingOptions,
    *,
    codec: Codec = "h264",
    progress: Progress | None = None,
) -> ExplainedFilm:
    """Write a film of explanations, whole or not at all.

    The color scale is fixed for the whole film before the first frame is written. If it is not
    given, it is fitted to at most NUM_SAMPLES frames, for which the film is decoded once more. If
    ctrl-C or SIGTERM interrupts the writing, the film holds the frames done until then.

    Args:
        explainer: what is drawn.
        source: the film.
        out: the folder to write below: `NAME.mp4`.
        options: how.
        codec: of the film.
        progress: called after each frame.

    Raises:
        ValueError: if a frame is too small for the network, the memory too small for a frame, the
            disk full, or the encoder missing.
    """

    def explain(frame: VideoFrame) -> tuple[VideoFrame, Explanation]:
        with explain_out_of_memory(source.path, frame.image.shape[:2]):
            return frame, explainer.explain(frame.image)

    samples = [] if options.limit is not None else sample_frames(source, NUM_SAMPLES)
    explanations = [explain(frame)[1] for frame in samples]
    scale = choose_scale(explainer, explanations, options.limit)
    painter = Painter(explainer, (source.rows, source.columns), scale, options)
    path = out / f"{source.name}{SUFFIXES[codec]}"
    size = {"rows": painter.wall.rows, "columns": painter.wall.columns}
    with open_writer(path, source, **size, codec=codec) as writer:

        def write(result: tuple[VideoFrame, Explanation]) -> None:
            frame, explanation = result
            writer.write(painter.draw(frame.image, explanation), frame.time_s)

        timings = transform_frames(source, explain, write, progress)
    problems = [source.damage] if source.damage else []
    return ExplainedFilm(path, scale.limit, timings, problems, writer.notes)


def sample_frames(source: FrameSource, number: int) -> list[VideoFrame]:
    """Decode a film once and keep up to `number` frames, spread evenly, more than half as many.

    The length of a film need not be known, and memory does not grow with it.
    """
    kept: list[VideoFrame] = []
    step = 1
    for index, frame in enumerate(source):
        if index % step:
            continue
        kept.append(frame)
        if len(kept) > number:
            kept = kept[::2]
            step *= 2
    return kept
