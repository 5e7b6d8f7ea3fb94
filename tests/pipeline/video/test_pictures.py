import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.video.source import open_sources
from tests.pipeline.conftest import save_png
from tests.pipeline.video.films import make_images


@pytest.fixture
def demo_zip(tmp_path: Path) -> Path:
    """A zip in the layout of leftImg8bit_demoVideo.zip: two sequences of 12 and 2 frames."""
    path = tmp_path / "leftImg8bit_demoVideo.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for city, number in (("stuttgart_00", 12), ("stuttgart_01", 2)):
            for index, image in enumerate(make_images(number)):
                name = f"leftImg8bit/demoVideo/{city}/{city}_000000_{index:06}_leftImg8bit.png"
                save_png(tmp_path / "frame.png", image)
                archive.write(tmp_path / "frame.png", name)
    return path


def test_each_folder_of_a_zip_is_a_film(demo_zip: Path) -> None:
    """Each sequence is a film of 17 frames/s with the name of its folder."""
    first, second = open_sources(demo_zip)
    assert [("stuttgart_00", 12), ("stuttgart_01", 2)] == [
        (source.name, source.num_frames) for source in (first, second)
    ]
    assert [Fraction(k, 17) for k in range(12)] == [frame.time_s for frame in first]
    for expected, frame in zip(make_images(12), first, strict=True):
        np.testing.assert_array_equal(expected, frame.image)


def test_cut_of_pictures(demo_zip: Path) -> None:
    """Start, end and every count as for films."""
    source = open_sources(demo_zip, start_s=0.1, end_s=0.5, every=2)[0]
    assert [0, Fraction(2, 17), Fraction(4, 17), Fraction(6, 17)] == [f.time_s for f in source]
    levels = [int(frame.image[0, 0, 0]) for frame in source]
    assert [int(image[0, 0, 0]) for image in make_images(12)[2:9:2]] == levels


def test_pictures_in_natural_order(tmp_path: Path) -> None:
    """Picture 10 comes after picture 9 also without leading zeros."""
    for index, image in enumerate(make_images(11)):
        save_png(tmp_path / f"drive/{index}.png", image)
    [source] = open_sources(tmp_path / "drive", fps=Fraction(10))
    assert [f"{k}.png" for k in range(11)] == [frame.label for frame in source]
    assert "drive" == source.name
    assert Fraction(1, 10) == source.time_base


def test_sequence_ends_at_a_damaged_picture(tmp_path: Path) -> None:
    """The pictures before a damaged one, or one of another size, are used; one sentence says so."""
    for index, image in enumerate(make_images(4)):
        save_png(tmp_path / f"drive/{index}.png", image)
    (tmp_path / "drive/3.png").write_bytes(b"no picture")
    [source] = open_sources(tmp_path / "drive")
    assert 3 == len(list(source))
    assert "3.png: not a PNG or JPEG" in (source.damage or "")
    save_png(tmp_path / "drive/1.png", make_images(1, 20, 30)[0])
    assert 1 == len(list(source))
    assert "1.png is 20 x 30, the pictures before it 48 x 64" in (source.damage or "")


def test_zip_without_pictures(tmp_path: Path) -> None:
    """A zip without pictures, and a file that is no zip, are refused."""
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", "none")
    with pytest.raises(ValueError, match=r"empty.zip contains no picture \(.png, .jpg, .jpeg\)"):
        open_sources(tmp_path / "empty.zip")
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"no.zip"):
        open_sources(tmp_path / "no.zip")
