import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.video.codecs import CODECS, Codec
from pipeline.video.frames import FrameSource
from pipeline.video.source import open_sources
from pipeline.video.writer import SUFFIXES, open_writer
from tests.pipeline.conftest import limit_file_size
from tests.pipeline.video.films import (
    VFR_TIMES_MS,
    make_images,
    read_audio,
    read_film,
    write_film,
)

FILM_CODECS = ["h264", "vp9", "av1"]


@pytest.fixture
def source(tmp_path: Path) -> FrameSource:
    """A silent film with a variable frame rate."""
    return open_sources(write_film(tmp_path / "in.mp4", make_images(8), VFR_TIMES_MS))[0]


def copy_film(source: FrameSource, path: Path, codec: Codec = "h264") -> list[str]:
    """Write the frames of a film as they are; return the notes."""
    size = {"rows": source.rows, "columns": source.columns}
    with open_writer(path, source, **size, codec=codec) as writer:
        for frame in source:
            writer.write(frame.image, frame.time_s)
    return writer.notes


def write_images(
    path: Path,
    source: FrameSource,
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    codec: Codec,
    error: BaseException | None = None,
) -> None:
    """Write images at 25 frames/s, then raise the error, if there is one, in the writer's block."""
    rows, columns = images[0].shape[:2]
    with open_writer(path, source, rows=rows, columns=columns, codec=codec) as writer:
        for k, image in enumerate(images):
            writer.write(image, Fraction(k, 25))
        if error:
            raise error


@pytest.mark.parametrize("codec", FILM_CODECS)
def test_frames_and_times(tmp_path: Path, source: FrameSource, codec: Codec) -> None:
    """As many frames as in the source, at the same times and in the same order."""
    path = tmp_path / f"out{SUFFIXES[codec]}"
    copy_film(source, path, codec)
    times, images = read_film(path)
    assert list(VFR_TIMES_MS) == [round(1000 * time) for time in times]
    levels = [image.mean() for image in images]
    np.testing.assert_allclose([image.mean() for image in make_images(8)], levels, atol=6)


def test_a_film_that_browsers_play(tmp_path: Path, source: FrameSource) -> None:
    """H.264 in MP4, 4:2:0, the index before the pictures, colors of BT.709, exact duration."""
    path = tmp_path / "out.mp4"
    copy_film(source, path)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert ("h264", "yuv420p") == (stream.codec_context.name, stream.pix_fmt)
        assert av.video.reformatter.Colorspace.ITU709 == stream.codec_context.colorspace
        # The last frame lasts as long as the one before it.
        assert pytest.approx(1.3 + 0.299, abs=0.001) == container.duration / 1e6


def test_colors(tmp_path: Path, source: FrameSource) -> None:
    """Saturated colors come back within a few levels: both ways use one matrix."""
    image = np.zeros((32, 96, 3), dtype=np.uint8)
    image[:, :32], image[:, 32:64], image[:, 64:] = (200, 30, 40), (20, 180, 60), (30, 40, 190)
    path = tmp_path / "out.mp4"
    with open_writer(path, source, rows=32, columns=96) as writer:
        writer.write(image, Fraction(0))
    frame = next(iter(open_sources(path)[0])).image
    assert np.abs(image.astype(int) - frame)[::4, 8::32].max() < 10


@pytest.mark.parametrize("codec", [*FILM_CODECS, "webp"])
def test_odd_sizes_are_made_even(tmp_path: Path, source: FrameSource, codec: Codec) -> None:
    """Odd rows and columns are made even by repeating the last ones."""
    image = np.full((65, 67, 3), 90, dtype=np.uint8)
    image[-1], image[:, -1] = 200, 200
    path = tmp_path / f"out{SUFFIXES[codec]}"
    with open_writer(path, source, rows=65, columns=67, codec=codec) as writer:
        for k in range(2):
            writer.write(image, Fraction(k, 25))
    if codec == "webp":
        with Image.open(path) as picture:
            written = np.asarray(picture.convert("RGB"))
    else:
        written = read_film(path)[1][0]
    assert (66, 68, 3) == written.shape
    assert written[-1].mean() > 160


def test_train_ids_are_lossless(tmp_path: Path, source: FrameSource) -> None:
    """Every byte of an odd-sized gray frame comes back from FFV1."""
    ids = np.random.default_rng(0).integers(0, 256, (3, 33, 47), dtype=np.uint8)
    path = tmp_path / "ids.mkv"
    with open_writer(path, source, rows=33, columns=47, codec="ffv1") as writer:
        for k, frame in enumerate(ids):
            writer.write(frame, Fraction(k, 25))
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(ids, decoded)


def test_animated_webp(tmp_path: Path, source: FrameSource) -> None:
    """An animated WebP loops forever and shows each frame for its time."""
    path = tmp_path / "out.webp"
    copy_film(source, path, "webp")
    with Image.open(path) as picture:
        assert (8, 0) == (picture.n_frames, picture.info["loop"])
        durations = []
        for k in range(7):
            picture.seek(k)
            picture.load()
            durations.append(picture.info["duration"])
    assert np.diff(VFR_TIMES_MS).tolist() == durations


@pytest.mark.parametrize(
    ("name", "audio", "codec", "expected"),
    [
        ("in.mp4", "aac", "h264", "aac"),  # copied
        ("in.webm", "libopus", "vp9", "opus"),
        ("in.webm", "libopus", "h264", "opus"),
        ("in.mp4", "aac", "vp9", "opus"),  # encoded again
        ("in.mov", "pcm_s16le", "h264", "aac"),
    ],
)
def test_sound_is_kept(tmp_path: Path, name: str, audio: str, codec: Codec, expected: str) -> None:
    """The sound is copied if the container takes it, else encoded again, and stays in time."""
    encoder = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = write_film(tmp_path / name, make_images(50), audio=audio, encoder=encoder)
    [source] = open_sources(path)
    out = tmp_path / f"out{SUFFIXES[codec]}"
    assert [] == copy_film(source, out, codec)
    actual, tone_start, end = read_audio(out)
    assert expected == actual
    assert pytest.approx(0.5, abs=0.05) == tone_start
    assert pytest.approx(2.0, abs=0.08) == end


def test_copied_sound_has_the_same_packets(tmp_path: Path) -> None:
    """Sound that the container takes is not encoded again: its packets are equal."""
    path = write_film(tmp_path / "in.mp4", make_images(20), audio="aac")
    copy_film(open_sources(path)[0], tmp_path / "out.mp4")
    packets = []
    for film in (path, tmp_path / "out.mp4"):
        with av.open(str(film)) as container:
            packets.append([(p.pts, bytes(p)) for p in container.demux(audio=0) if p.size])
    assert packets[0] == packets[1]
    assert len(packets[0]) > 10


@pytest.mark.parametrize("audio", ["aac", "pcm_s16le"])
def test_sound_is_cut(tmp_path: Path, audio: str) -> None:
    """With a start and an end, the sound is cut like the frames, copied or encoded again."""
    path = write_film(tmp_path / "in.mov", make_images(50), audio=audio)
    [source] = open_sources(path, start_s=0.2, end_s=1.2)
    out = tmp_path / "out.mp4"
    copy_film(source, out)
    _, tone_start, end = read_audio(out)
    assert pytest.approx(0.3, abs=0.05) == tone_start
    assert pytest.approx(1.0, abs=0.08) == end


def test_sound_in_an_unknown_codec_is_left_out(tmp_path: Path) -> None:
    """A film with sound that FFmpeg cannot decode is written silent, and a sentence says so."""
    path = write_film(tmp_path / "in.mkv", make_images(5), audio="flac")
    path.write_bytes(path.read_bytes().replace(b"A_FLAC", b"A_ABCD"))
    [source] = open_sources(path)
    [note] = copy_film(source, tmp_path / "out.mp4")
    assert f"{path}: written without sound (" in note
    assert 5 == len(read_film(tmp_path / "out.mp4")[0])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("codec", CODECS)
def test_interrupted_film_is_playable(
    tmp_path: Path, source: FrameSource, codec: Codec, stop: type[BaseException]
) -> None:
    """Ctrl-C and SIGTERM leave a whole film of the frames written until then."""
    path = tmp_path / f"out{SUFFIXES[codec]}"
    image = make_images(1)[0][..., 0] if codec == "ffv1" else make_images(1)[0]
    images = [(image + 50 * k).astype(np.uint8) for k in range(3)]
    with pytest.raises(stop):
        write_images(path, source, images, codec, error=stop())
    if codec == "webp":
        with Image.open(path) as picture:
            assert 3 == picture.n_frames
    else:
        assert 3 == len(read_film(path)[0])
    assert {"in.mp4", path.name} == {file.name for file in tmp_path.iterdir()}


def test_interrupted_before_the_first_frame(tmp_path: Path, source: FrameSource) -> None:
    """An interruption before the first frame leaves nothing."""
    size = {"rows": 48, "columns": 64}
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "out.mp4", source, **size):
        raise KeyboardInterrupt
    assert ["in.mp4"] == [file.name for file in tmp_path.iterdir()]


def test_error_leaves_the_film_before(tmp_path: Path, source: FrameSource) -> None:
    """After an error nothing of the new film is left, and an older one is unchanged."""
    path = tmp_path / "out.mp4"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError, match="broken"):
        write_images(path, source, make_images(1), "h264", error=RuntimeError("broken"))
    assert b"older" == path.read_bytes()
    assert {"in.mp4", "out.mp4"} == {file.name for file in tmp_path.iterdir()}


@pytest.mark.parametrize("codec", CODECS)
def test_full_disk(tmp_path: Path, source: FrameSource, codec: Codec) -> None:
    """A full disk ends in one sentence, and nothing is left."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), dtype=np.uint8)
    out = tmp_path / "out"
    message = re.escape(f"in.mp4: the disk under {out} is full")
    images = noise[..., 0] if codec == "ffv1" else noise
    with limit_file_size(20_000), pytest.raises(ValueError, match=message):
        write_images(out / f"a{SUFFIXES[codec]}", source, images, codec)
    assert [] == list(out.iterdir())


def test_cut_without_frames(tmp_path: Path) -> None:
    """A cut that lies behind the film is named, and no film is written."""
    path = write_film(tmp_path / "in.mp4", make_images(5))
    [source] = open_sources(path, start_s=7)
    with pytest.raises(ValueError, match=r"in.mp4: no frame lies between the given start and end"):
        copy_film(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
