import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pipeline.archive import IMAGE, LABEL_IDS, Archive, index, member_name, writing
from tests.pipeline.conftest import KEYS, SIZE, save_png


def zipped(tree: Path, path: Path) -> Path:
    """The tree as a zip, by the standard library alone."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in tree.rglob("*.png"):
            archive.write(file, file.relative_to(tree))
    return path


@pytest.mark.parametrize("kind", [IMAGE, LABEL_IDS])
def test_zip_and_folder_are_read_alike(tree: Path, tmp_path: Path, kind: str) -> None:
    """The same frames, under the same keys, with the same bytes."""
    with Archive(tree) as folder, Archive(zipped(tree, tmp_path / "a.zip")) as packed:
        assert set(KEYS) == folder.members(kind).keys()
        assert folder.members(kind) == packed.members(kind)
        for member in folder.members(kind).values():
            assert folder.read(member.name) == packed.read(member.name)


def test_an_outer_folder_does_not_hide_the_frames() -> None:
    """A zip whose members lie in a folder of its name has the same keys."""
    name = "anything/" + member_name(KEYS[0], IMAGE)
    assert {KEYS[0]} == index([name], IMAGE, Path("a.zip")).keys()


def test_kinds_are_kept_apart() -> None:
    """An instance map is no label map, and a label map in the photographs' package is nothing."""
    names = [
        member_name(KEYS[0], "gtFine_instanceIds"),
        f"leftImg8bit/{KEYS[1]}_gtFine_labelIds.png",
    ]
    assert {} == index(names, LABEL_IDS, Path("a.zip"))


def test_two_files_for_one_frame_are_refused() -> None:
    """Which of two files is the frame is not guessed."""
    names = [member_name(KEYS[0], IMAGE), "copy/" + member_name(KEYS[0], IMAGE)]
    with pytest.raises(ValueError, match="are the same frame"):
        index(names, IMAGE, Path("a.zip"))


def test_pictures_come_back_as_written(tmp_path: Path) -> None:
    """A label map written through the writer is read with the same ids."""
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    with writing(tmp_path / "a.zip") as archive:
        archive.add_labels("a.png", labels)
    with Archive(tmp_path / "a.zip") as archive:
        np.testing.assert_array_equal(labels, archive.open_labels("a.png"))


def test_writing_is_deterministic_and_whole(tmp_path: Path) -> None:
    """The same members give the same bytes; an error leaves what was there before."""
    for name in ("a.zip", "b.zip"):
        with writing(tmp_path / name) as archive:
            archive.add("x", b"1")
    before = (tmp_path / "a.zip").read_bytes()
    assert before == (tmp_path / "b.zip").read_bytes()
    with suppress(KeyboardInterrupt), writing(tmp_path / "a.zip") as archive:
        archive.add("x", b"2")
        raise KeyboardInterrupt
    assert before == (tmp_path / "a.zip").read_bytes()
    assert ["a.zip", "b.zip"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    """Nothing at the path, or half a zip, is told with the path."""
    with pytest.raises(ValueError, match=r"none\.zip is missing"):
        Archive(tmp_path / "none.zip")
    (tmp_path / "half.zip").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(ValueError, match=r"half\.zip is not a whole zip"):
        Archive(tmp_path / "half.zip")


def test_a_missing_member_is_named(tree: Path, tmp_path: Path) -> None:
    """A file that is not in the zip is told with its name."""
    archive = Archive(zipped(tree, tmp_path / "a.zip"))
    with archive, pytest.raises(ValueError, match=r"nowhere\.png is missing"):
        archive.read("nowhere.png")


@pytest.mark.parametrize("kind", ["text", "cut", "flipped"])
def test_an_unreadable_picture_is_named(tree: Path, kind: str) -> None:
    """Text, half a PNG and one with a flipped bit are refused, decoded or only checked."""
    path = tree / member_name(KEYS[0], IMAGE)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"text": b"no picture", "cut": whole[:middle], "flipped": flipped}[kind])
    with Archive(tree) as archive:
        name = member_name(KEYS[0], IMAGE)
        for read in (archive.open_image, archive.image_size):
            with pytest.raises(ValueError, match=r"avalon_000000_000019_leftImg8bit\.png"):
                read(name)


def test_every_damage_to_a_deflated_zip_is_one_message(tree: Path, tmp_path: Path) -> None:
    """Whichever byte of a compressed member is flipped, the error names the file."""
    name = member_name(KEYS[0], LABEL_IDS)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, (tree / name).read_bytes() + bytes(2000))
        start = len(name) + 30
        length = archive.getinfo(name).compress_size
    whole = path.read_bytes()
    for place in range(start, start + length, max(1, length // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with Archive(path) as archive, pytest.raises(ValueError, match="is damaged"):
            archive.read(name)


def test_a_missing_photograph_is_named(tree: Path) -> None:
    """A frame without its photograph is told by the photograph's official name."""
    with (
        Archive(tree) as archive,
        pytest.raises(ValueError, match=r"a_leftImg8bit\.png is missing"),
    ):
        archive.photograph("train/a/a")


def test_a_picture_of_another_mode_is_refused(tree: Path) -> None:
    """A grey photograph and a colour label map are odd, and named."""
    save_png(tree / member_name(KEYS[0], IMAGE), np.zeros(SIZE, np.uint8))
    save_png(tree / member_name(KEYS[0], LABEL_IDS), np.zeros((*SIZE, 3), np.uint8))
    with Archive(tree) as archive:
        for read in (archive.open_image, archive.image_size):
            with pytest.raises(ValueError, match="mode L, but should be 8 bit RGB"):
                read(member_name(KEYS[0], IMAGE))
        with pytest.raises(ValueError, match="mode RGB, but should be 8 bit L"):
            archive.open_labels(member_name(KEYS[0], LABEL_IDS))


def test_a_bomb_is_refused_by_its_header(tree: Path) -> None:
    """A PNG that claims 100,000 x 100,000 pixels is refused before a pixel is decoded."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(b"\0" * 1000)]
    bomb = b"\x89PNG\r\n\x1a\n"
    for chunk in chunks:
        bomb += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tree / member_name(KEYS[0], IMAGE)).write_bytes(bomb)
    with Archive(tree) as archive, pytest.raises(ValueError, match="absurdly large"):
        archive.open_image(member_name(KEYS[0], IMAGE))
