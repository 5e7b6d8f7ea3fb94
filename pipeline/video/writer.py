"""Opens a film for writing, which appears whole, or as far as it came when it was interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.disk import explain_disk_full
from pipeline.video.codecs import CODECS, Codec
from pipeline.video.film_writer import FilmWriter
from pipeline.video.frames import FrameSource
from segformer.atomic import commit, replacing

SUFFIXES: dict[Codec, str] = {codec: settings.suffix for codec, settings in CODECS.items()}
"""The file suffix of each codec's container: `.mp4`, `.webm`, `.webp` or `.mkv`."""


@contextmanager
def open_writer(
    path: Path, source: FrameSource, *, rows: int, columns: int, codec: Codec = "h264"
) -> Iterator[FilmWriter]:
    """Write a film with the times and the sound of its source.

    The film appears at `path` whole, when the block ends. If ctrl-C or SIGTERM ends the block, it
    holds the frames written until then; after any other error nothing is left.

    Args:
        path: with the suffix of the codec (`SUFFIXES`).
        source: where the frames come from: gives times and sound.
        rows: height of the frames, in pixels.
        columns: width of the frames, in pixels. H.264, VP9, AV1 and WebP store an even number of
            rows and columns here: an odd one is made even by repeating the last row or column.
        codec: `h264` or `av1` in MP4, `vp9` in WebM, `webp`: an animated picture that loops,
            without sound, or `ffv1`: lossless gray in Matroska, without sound, of (rows, columns).

    Raises:
        ValueError: if the encoder is missing in this FFmpeg, no frame was written, or the disk is
            full.
    """
    with explain_disk_full(path.parent, label=str(source.path)), replacing(path) as part:
        writer = FilmWriter(part, source, rows=rows, columns=columns, codec=codec)
        try:
            yield writer
            if not writer.num_frames:
                raise ValueError(f"{source.path}: no frame lies between the given start and end")
            writer.finish(is_complete=True)
        except (KeyboardInterrupt, SystemExit):
            if writer.num_frames:
                writer.finish(is_complete=False)
                commit(part, path)
            else:
                writer.abort()
            raise
        except BaseException:
            writer.abort()
            raise
