import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.video import frames
from pipeline.video.film_reader import FilmReader
from pipeline.video.frames import Cut
from pipeline.video.source import open_sources
from tests.pipeline.video.films import VFR_TIMES_MS, make_images, write_film

CORNERS = np.zeros((32, 48, 3), dtype=np.uint8)
CORNERS[:16, :24] = (255, 0, 0)
CORNERS[:16, 24:] = (0, 255, 0)
CORNERS[16:, :24] = (0, 0, 255)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_times_of_a_variable_frame_rate(tmp_path: Path, name: str) -> None:
    """Every frame comes with the time that the film gives it, each time the film is read."""
    reader = FilmReader(write_film(tmp_path / name, make_images(8), VFR_TIMES_MS))
    expected = [Fraction(time, 1000) for time in VFR_TIMES_MS]
    assert expected == [frame.time_s for frame in reader]
    assert expected == [frame.time_s for frame in reader]
    assert reader.damage is None


def test_pixels_of_a_lossless_film(tmp_path: Path) -> None:
    """Frames are the film's pixels as RGB."""
    images = [np.random.default_rng(k).integers(0, 256, (20, 30, 3), np.uint8) for k in range(3)]
    reader = FilmReader(write_film(tmp_path / "a.mkv", images, encoder="ffv1"))
    for expected, frame in zip(images, reader, strict=True):
        np.testing.assert_array_equal(expected, frame.image)


@pytest.mark.parametrize("angle", [0, 90, 180, -90])
def test_frames_are_upright(tmp_path: Path, angle: int) -> None:
    """A film is turned as its metadata says, counterclockwise by the angle."""
    path = write_film(tmp_path / "phone.mp4", [CORNERS] * 2, rotation=angle)
    reader = FilmReader(path)
    expected = np.rot90(CORNERS, angle // 90)
    assert expected.shape[:2] == (reader.rows, reader.columns)
    image = next(iter(reader)).image
    assert np.abs(expected.astype(int) - image)[::8, ::8].mean() < 8


def test_pixels_are_square(tmp_path: Path) -> None:
    """A film with pixels twice as wide as high becomes twice as wide."""
    path = write_film(tmp_path / "wide.mp4", make_images(2, 32, 40), pixel_aspect=Fraction(2))
    assert (32, 80, 3) == next(iter(FilmReader(path))).image.shape


def test_cut(tmp_path: Path) -> None:
    """A cut has the frames from its start to before its end, in times from its start."""
    path = write_film(tmp_path / "a.mp4", make_images(40), options={"movflags": "faststart"})
    [source] = open_sources(path, start_s=0.4, end_s=1.2, every=3)
    assert [Fraction(k * 120, 1000) for k in range(7)] == [frame.time_s for frame in source]
    assert 7 == source.num_frames
    whole = [frame.image for frame in FilmReader(path)]
    for expected, frame in zip(whole[10:30:3], source, strict=True):
        np.testing.assert_array_equal(expected, frame.image)


@pytest.mark.parametrize("cut", [{"every": 0}, {"start_s": -1}, {"start_s": 2, "end_s": 2}])
def test_impossible_cut(tmp_path: Path, cut: dict[str, int]) -> None:
    """A cut that can have no frames is refused."""
    path = write_film(tmp_path / "a.mp4", make_images(2))
    with pytest.raises(ValueError, match="choose"):
        open_sources(path, **cut)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_damaged_film(tmp_path: Path, name: str, damage: str) -> None:
    """The frames before the damage are those of the intact film, and one sentence says so."""
    noise = [np.random.default_rng(k).integers(0, 256, (64, 96, 3), np.uint8) for k in range(40)]
    path = write_film(tmp_path / name, noise, options={"movflags": "faststart"})
    intact = [frame.image for frame in FilmReader(path)]
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "cut off":
        del content[middle:]
    else:
        content[middle : middle + 20_000] = b"\xff" * 20_000
    path.write_bytes(content)
    reader = FilmReader(path)
    before = [frame.image for frame in reader]
    assert 10 <= len(before) < 40
    np.testing.assert_array_equal(intact[:10], before[:10])
    assert f"{path} is damaged or cut off at " in (reader.damage or "")


def test_files_that_are_no_film(tmp_path: Path) -> None:
    """A text, a bitmap, a film without an index and a missing file get one sentence each."""
    text, bitmap, cut_off = (tmp_path / name for name in ("a.txt", "a.mp4", "b.mp4"))
    text.write_text("hello")
    bitmap.write_bytes(b"BM" + bytes(60))
    content = write_film(cut_off, make_images(5)).read_bytes()
    cut_off.write_bytes(content[: len(content) // 2])
    for path in (text, bitmap, cut_off, tmp_path / "missing.mp4"):
        with pytest.raises(ValueError, match=f"{path}.*(film|frame|exist)") as error:
            open_sources(path)
        assert "\n" not in str(error.value)


def test_sound_without_video(tmp_path: Path) -> None:
    """A file with sound alone is refused."""
    path = tmp_path / "song.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match=r"song.wav: has no video stream"):
        open_sources(path)


def test_unknown_codec(tmp_path: Path) -> None:
    """A codec that FFmpeg does not know is refused."""
    path = write_film(tmp_path / "a.mkv", make_images(2), encoder="ffv1")
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_ABCD"))
    with pytest.raises(ValueError, match=r"a.mkv: its video is in a codec that FFmpeg does not"):
        open_sources(path)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A film with frames over the limit of all images is refused."""
    path = write_film(tmp_path / "a.mp4", make_images(2))
    monkeypatch.setattr(frames, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a.mp4: 48 x 64 pixels, not decoded; the limit is 1000"):
        open_sources(path)


def test_no_frame_that_can_be_decoded(tmp_path: Path) -> None:
    """A film that is damaged from its first frame is refused."""
    path = write_film(tmp_path / "a.mkv", make_images(1), encoder="ffv1")
    content = bytearray(path.read_bytes())
    start = content.index(b"\x1fC\xb6u")  # the first cluster
    content[start + 40 :] = os.urandom(len(content) - start - 40)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.mkv: no frame can be decoded"):
        FilmReader(path, Cut())
