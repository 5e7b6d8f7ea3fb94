"""Opens what can be seen as a film: a video file, or a folder or zip of pictures in order."""

from fractions import Fraction
from pathlib import Path

from pipeline.video.film_reader import FilmReader
from pipeline.video.frames import Cut, FrameSource
from pipeline.video.pictures import PictureSource, find_sequences

DEMO_VIDEO_FPS = Fraction(17)
"""Frames per second of Cityscapes' sequences (arXiv:1604.01685, section 2.1)."""


def open_sources(
    path: Path,
    *,
    start_s: Fraction | float | None = None,
    end_s: Fraction | float | None = None,
    every: int = 1,
    fps: Fraction = DEMO_VIDEO_FPS,
) -> list[FrameSource]:
    """Open a film, or the sequences of pictures of a folder or zip.

    Args:
        path: a film that FFmpeg decodes, or a folder or zip of PNGs and JPEGs. Each folder that
            holds pictures is one sequence, in order of their names: one of
            `leftImg8bit_demoVideo.zip` for each drive.
        start_s: seconds from the start of the film; None: its start.
        end_s: seconds from the start of the film, exclusive; None: its end.
        every: yield the first of each `every` frames.
        fps: frames per second of pictures.

    Returns:
        At least one source; a film is one.

    Raises:
        ValueError: one sentence, if `path` is missing, is no film or has no pictures, or a frame
            is larger than MAX_PIXELS.
    """
    # By way of text, 0.4 is two fifths and not the nearest float, which is more.
    start, end = (None if time is None else Fraction(str(time)) for time in (start_s, end_s))
    cut = Cut(start or Fraction(0), end, every)
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    if path.is_file() and path.suffix.lower() != ".zip":
        return [FilmReader(path, cut)]
    return [
        PictureSource(path, name, members, frame_rate=fps, cut=cut)
        for name, members in find_sequences(path).items()
    ]
