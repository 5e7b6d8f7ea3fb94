"""Opens what can be seen as a film: a video file, or a folder or zip of pictures in order."""

from fractions import Fraction
from pathlib import Path

from pipeline.video.frames import FrameSource

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
    raise NotImplementedError
